//! Decimal numbers as they are written, without the rounding of floating point.

/// `mantissa` times ten to the power of `exponent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Decimal {
    pub(crate) mantissa: i64,
    pub(crate) exponent: i16,
}

/// Decimal places of [`Decimal::to_fixed`].
const PLACES: i32 = 9;

impl Decimal {
    /// Reads a JSON number. Digits that do not fit in 64 bits are cut; `None` if it is no number or its
    /// exponent is out of all proportion.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (digits, exponent) = match text.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, exponent.parse::<i16>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let mut mantissa = 0_i64;
        let mut exponent = i64::from(exponent);
        let mut n_digits = 0;
        let all = whole.bytes().map(|digit| (digit, 0));
        for (digit, shift) in all.chain(fraction.bytes().map(|digit| (digit, 1))) {
            if !digit.is_ascii_digit() {
                return None;
            }
            n_digits += 1;
            let next = mantissa.checked_mul(10);
            let next = next.and_then(|value| value.checked_add(i64::from(digit - b'0')));
            match next {
                Some(value) => {
                    mantissa = value;
                    exponent -= shift;
                }
                // No room: the digit counts only by its place.
                None => exponent += 1 - shift,
            }
        }
        if n_digits == 0 {
            return None;
        }
        Some(Self {
            mantissa: if is_negative { -mantissa } else { mantissa },
            exponent: i16::try_from(exponent).ok()?,
        })
    }

    /// As a whole number of billionths, once multiplied by ten to the power of `shift`; what is
    /// smaller is cut. `None` if it does not fit.
    pub(crate) fn to_fixed(self, shift: i32) -> Option<i128> {
        let power = i32::from(self.exponent) + shift + PLACES;
        let mantissa = i128::from(self.mantissa);
        let ten = |power: u32| 10_i128.checked_pow(power);
        if mantissa == 0 {
            return Some(0);
        }
        match u32::try_from(power) {
            Ok(power) => mantissa.checked_mul(ten(power)?),
            Err(_) => Some(ten(power.unsigned_abs()).map_or(0, |divisor| mantissa / divisor)),
        }
    }
}

/// The nearest whole number to a number of billionths.
pub(crate) fn rounded(fixed: i128) -> Option<i64> {
    const ONE: i128 = 1_000_000_000;
    let half = if fixed < 0 { -ONE / 2 } else { ONE / 2 };
    i64::try_from(fixed.checked_add(half)? / ONE).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(text: &str, shift: i32) -> Option<i128> {
        Decimal::parse(text)?.to_fixed(shift)
    }

    #[test]
    fn what_is_written_is_what_counts() {
        assert_eq!(fixed("1", 0), Some(1_000_000_000));
        assert_eq!(fixed("-1.5", 0), Some(-1_500_000_000));
        assert_eq!(fixed("0.1", 9), Some(100_000_000_000_000_000));
        assert_eq!(fixed("1.5e3", 0), Some(1_500_000_000_000));
        assert_eq!(fixed("25E-1", 0), Some(2_500_000_000));
        assert_eq!(fixed("1e+2", 0), Some(100_000_000_000));
        assert_eq!(
            fixed("1700000000.123456789", 9),
            Some(1_700_000_000_123_456_789_000_000_000)
        );
        assert_eq!(fixed("0.000000000000000000000000001", 0), Some(0));
        assert_eq!(
            fixed("123456789012345678901234", -10),
            Some(12_345_678_901_234_567_890_000)
        );
        assert_eq!(fixed("0e32767", 9), Some(0));
    }

    #[test]
    fn what_is_no_number_or_does_not_fit_is_told() {
        for text in [
            "", "-", ".", "x", "1x", "1e", "1e99999", "0x1", "NaN", "+1", " 1",
        ] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        assert_eq!(fixed("1e300", 0), None);
        assert_eq!(fixed("9e30", 9), None);
    }

    #[test]
    fn halves_are_rounded_away_from_zero() {
        for (fixed, expected) in [(1_499_999_999, 1), (1_500_000_000, 2), (-500_000_000, -1)] {
            assert_eq!(rounded(fixed), Some(expected));
        }
        assert_eq!(rounded(i128::MAX), None);
        assert_eq!(rounded(i128::from(i64::MAX) * 2_000_000_000), None);
    }
}
