//! Values for people, as pprof writes them.

/// A value in the unit that keeps it short: `1.50s`, `2MB`, `7`.
pub fn scaled(value: i64, unit: &str) -> String {
    const TIME: [(&str, f64); 6] = [
        ("hrs", 3.6e12),
        ("mins", 6e10),
        ("s", 1e9),
        ("ms", 1e6),
        ("us", 1e3),
        ("ns", 1.0),
    ];
    const KIB: f64 = 1024.0;
    const MEMORY: [(&str, f64); 6] = [
        ("PB", KIB * KIB * KIB * KIB * KIB),
        ("TB", KIB * KIB * KIB * KIB),
        ("GB", KIB * KIB * KIB),
        ("MB", KIB * KIB),
        ("kB", KIB),
        ("B", 1.0),
    ];
    let units = match unit {
        "nanoseconds" | "ns" => &TIME,
        "bytes" | "byte" => &MEMORY,
        _ => return value.to_string(),
    };
    if value == 0 {
        return "0".to_owned();
    }
    let size = value.unsigned_abs() as f64;
    let (name, factor) = units
        .iter()
        .find(|(_, factor)| size >= *factor)
        .unwrap_or(&units[units.len() - 1]);
    let number = format!("{:.2}", value as f64 / factor);
    let number = number.strip_suffix(".00").unwrap_or(&number);
    format!("{number}{name}")
}

/// A part of a total in percent, to about three digits.
pub fn percentage(part: i64, total: i64) -> String {
    if total == 0 {
        return "0%".to_owned();
    }
    let percent = (part as f64 / total as f64 * 100.0).abs();
    if (99.95..=100.05).contains(&percent) {
        "100%".to_owned()
    } else if percent >= 1.0 {
        format!("{percent:.2}%")
    } else if percent == 0.0 {
        "0%".to_owned()
    } else {
        // Two significant digits.
        let digits = (1.0 - percent.log10().floor()).clamp(0.0, 12.0) as usize;
        let text = format!("{percent:.digits$}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        format!("{text}%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_pprof_does() {
        assert_eq!(scaled(10_000_000, "nanoseconds"), "10ms");
        assert_eq!(scaled(1_500_000_000, "nanoseconds"), "1.50s");
        assert_eq!(scaled(90_000_000_000, "nanoseconds"), "1.50mins");
        assert_eq!(scaled(2 << 20, "bytes"), "2MB");
        assert_eq!(scaled(7, "count"), "7");
        assert_eq!(scaled(0, "bytes"), "0");
        assert_eq!(scaled(i64::MIN, "bytes"), "-8192PB");
        assert_eq!(percentage(1, 1), "100%");
        assert_eq!(percentage(1, 6), "16.67%");
        assert_eq!(percentage(1, 2000), "0.05%");
        assert_eq!(percentage(0, 0), "0%");
    }
}
