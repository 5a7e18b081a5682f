//! Who runs.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// The dump function, cold, through the Lambda host; then verify on its backup.
    Lifeboat,
    /// `pg_dump -Fc`, compressed by gzip at this level, into `aws s3 cp -`.
    Custom { level: Option<u8> },
    /// `pg_dump -Fd -jN` into a folder, then `aws s3 sync`.
    Directory { connections: u32 },
    /// The same `COPY` statements on as many connections, to nowhere.
    Floor,
}

/// What everybody is compared with.
pub(crate) const BASELINE: Contestant = Contestant::Custom { level: None };

impl Contestant {
    pub(crate) fn all(connections: u32) -> Vec<Self> {
        vec![
            Self::Lifeboat,
            BASELINE,
            Self::Custom { level: Some(1) },
            Self::Directory { connections },
            Self::Floor,
        ]
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lifeboat => f.pad("lifeboat"),
            Self::Custom { level: None } => f.pad("pg_dump -Fc | aws s3 cp -"),
            Self::Custom { level: Some(level) } => {
                f.pad(&format!("pg_dump -Fc -Z{level} | aws s3 cp -"))
            }
            Self::Directory { connections } => {
                f.pad(&format!("pg_dump -Fd -j{connections}, aws s3 sync"))
            }
            Self::Floor => f.pad("floor: COPY to nowhere"),
        }
    }
}
