//! Identifiers in the shapes that Neon gives them.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

const FIRST: [&str; 8] = [
    "aged", "bitter", "calm", "dawn", "floral", "late", "quiet", "tiny",
];
const SECOND: [&str; 8] = [
    "bird", "dew", "king", "moon", "salad", "scene", "sound", "wood",
];

/// Sixty-four bits that nobody can guess.
fn random() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    RandomState::new().hash_one(NEXT.fetch_add(1, Ordering::Relaxed))
}

fn pick<'a>(words: &[&'a str; 8], random: u64) -> &'a str {
    words[usize::try_from(random % 8).unwrap_or_default()]
}

/// `br-aged-salad-a1b2c3d4` for the prefix `br`, `floral-king-…` without one.
pub(super) fn id(prefix: &str) -> String {
    let random = random();
    let words = format!(
        "{}-{}-{:08x}",
        pick(&FIRST, random),
        pick(&SECOND, random >> 3),
        random >> 32
    );
    if prefix.is_empty() {
        words
    } else {
        format!("{prefix}-{words}")
    }
}

pub(super) fn uuid() -> String {
    let (one, two) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        one >> 32,
        (one >> 16) & 0xffff,
        one & 0xfff,
        two >> 52,
        two & 0xffff_ffff_ffff
    )
}

pub(super) fn password() -> String {
    format!("npg_{:016x}", random())
}

pub(super) fn key() -> String {
    format!("napi_{:016x}{:016x}", random(), random())
}

/// What the API counts its databases with.
pub(super) fn number() -> u64 {
    random() >> 40
}
