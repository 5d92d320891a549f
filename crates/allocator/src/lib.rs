//! The allocator of the program, and how it is made to give memory back.
//!
//! mimalloc keeps what was freed for a second, and looks at what is due only when threads allocate:
//! a process that falls idle after a burst keeps all of it. That is good for speed and bad for a
//! process whose control group counts every page, so [`give_back`] makes it look.
//!
//! # What it must not know
//! Limits, and when memory is short.

pub use mimalloc::MiMalloc as Allocator;

/// Returns to the kernel what has been freed, by any thread. The next allocations take it from
/// there again, page by page: for when memory is short.
pub fn give_back() {
    #[allow(unsafe_code, reason = "there is no safe function for it; ADR 0048")]
    // SAFETY: it takes no pointers and may be called by any thread at any time.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[global_allocator]
    static ALLOCATOR: Allocator = Allocator;

    fn resident_kib() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        line.unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    }

    #[test]
    fn what_another_thread_freed_goes_back() {
        let blocks = std::thread::spawn(|| {
            let blocks: Vec<Vec<u8>> = (0..2000).map(|n| vec![n as u8; 30_000]).collect();
            let filled = resident_kib();
            drop(blocks);
            filled
        });
        let filled = blocks.join().unwrap();
        give_back();
        let left = resident_kib();
        assert!(left + 40_000 < filled, "{left} of {filled} KiB are left");
    }
}
