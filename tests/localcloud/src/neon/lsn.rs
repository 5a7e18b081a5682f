//! A position in the write-ahead log, as PostgreSQL and Neon write it.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lsn(u64);

impl Lsn {
    /// `0/1AA6408`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.trim().split_once('/')?;
        let part = |digits: &str| u32::from_str_radix(digits, 16).ok().map(u64::from);
        Some(Self((part(high)? << 32) | part(low)?))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_written_and_ordered() {
        let lsn = Lsn::parse("1/1AA6408").unwrap();
        assert_eq!(lsn.to_string(), "1/1AA6408");
        assert!(lsn > Lsn::parse("0/FFFFFFFF").unwrap());
        assert_eq!(Lsn::parse("17"), None);
    }
}
