import java.util.ArrayList;
import java.util.List;

/** Something for the JVM's own recorder to see: {@code Spin <seconds>}. */
public final class Spin {
    private static volatile long sink;

    private static void busySpin(long until) {
        long sum = 0;
        while (System.nanoTime() < until) {
            for (int i = 0; i < 1_000_000; i++) {
                sum = sum * 31 + i;
            }
        }
        sink = sum;
    }

    private static void allocate(long until) {
        List<byte[]> kept = new ArrayList<>();
        while (System.nanoTime() < until) {
            kept.add(new byte[64 * 1024]);
            if (kept.size() > 100) {
                kept.clear();
            }
        }
    }

    public static void main(String[] arguments) throws InterruptedException {
        long seconds = Long.parseLong(arguments[0]);
        long until = System.nanoTime() + seconds * 1_000_000_000L;
        Thread allocating = new Thread(() -> allocate(until));
        allocating.start();
        busySpin(until);
        allocating.join();
    }
}
