//! Two texts, and the lines in which they differ. Pure.

/// Lines around a change that are shown with it.
const CONTEXT: usize = 1;
const LINES_MAX: usize = 24;
const LINE_CHARS_MAX: usize = 160;
/// Beyond it, what lies between the first and the last changed line is shown as replaced.
const TABLE_MAX: usize = 250_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Both,
    Old,
    New,
}

/// As `diff -u` prints it, without its header: `-` only in `old`, `+` only in `new`.
pub fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let lines = aligned(&old, &new);
    let is_near = |at: usize| {
        let from = at.saturating_sub(CONTEXT);
        let to = (at + CONTEXT + 1).min(lines.len());
        lines[from..to].iter().any(|(side, _)| *side != Side::Both)
    };
    let mut shown = Vec::new();
    let mut last = None;
    for (at, (side, line)) in lines.iter().enumerate() {
        if !is_near(at) {
            continue;
        }
        if last.is_some_and(|last| last + 1 != at) {
            shown.push("  …".to_owned());
        }
        last = Some(at);
        let sign = match side {
            Side::Both => ' ',
            Side::Old => '-',
            Side::New => '+',
        };
        shown.push(format!("{sign} {}", short(line)));
    }
    if shown.len() > LINES_MAX {
        let more = shown.len() - LINES_MAX;
        shown.truncate(LINES_MAX);
        shown.push(format!("  … {more} more lines"));
    }
    shown.join("\n")
}

fn short(line: &str) -> String {
    if line.chars().count() <= LINE_CHARS_MAX {
        return line.to_owned();
    }
    let start: String = line.chars().take(LINE_CHARS_MAX).collect();
    format!("{start}…")
}

fn aligned<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(Side, &'a str)> {
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = old.iter().zip(new).take_while(same).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let backwards = old_rest.iter().rev().zip(new_rest.iter().rev());
    let tail = backwards.take_while(same).count();
    let old_middle = &old_rest[..old_rest.len() - tail];
    let new_middle = &new_rest[..new_rest.len() - tail];

    let mut lines: Vec<_> = old[..head].iter().map(|it| (Side::Both, *it)).collect();
    lines.extend(middle(old_middle, new_middle));
    let end = &old_rest[old_rest.len() - tail..];
    lines.extend(end.iter().map(|it| (Side::Both, *it)));
    lines
}

/// Through the longest common subsequence, where that is cheap enough.
fn middle<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(Side, &'a str)> {
    let (rows, columns) = (old.len() + 1, new.len() + 1);
    if rows * columns > TABLE_MAX {
        let removed = old.iter().map(|it| (Side::Old, *it));
        return removed
            .chain(new.iter().map(|it| (Side::New, *it)))
            .collect();
    }
    let mut length = vec![0_u32; rows * columns];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            length[i * columns + j] = if old[i] == new[j] {
                length[(i + 1) * columns + j + 1] + 1
            } else {
                length[(i + 1) * columns + j].max(length[i * columns + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((Side::Both, old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || (i < old.len() && length[(i + 1) * columns + j] >= length[i * columns + j + 1])
        {
            lines.push((Side::Old, old[i]));
            i += 1;
        } else {
            lines.push((Side::New, new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: &str, new: &str, expected: &str) {
        assert_eq!(unified(old, new), expected);
    }

    #[test]
    fn only_what_changed_and_its_neighbours_are_shown() {
        check("a\nb\nc\nd\ne", "a\nb\nX\nd\ne", "  b\n- c\n+ X\n  d");
        check("a\nb", "a\nb", "");
        check("", "a", "+ a");
        check("a\nb\nc", "a\nc", "  a\n- b\n  c");
    }

    #[test]
    fn two_changes_far_apart_are_two_pieces() {
        check(
            "1\na\na2\na3\na4\n2",
            "X\na\na2\na3\na4\nY",
            "- 1\n+ X\n  a\n  …\n  a4\n- 2\n+ Y",
        );
    }

    #[test]
    fn large_texts_are_cut() {
        let old: String = (0..2_000).map(|n| format!("old {n}\n")).collect();
        let new: String = (0..2_000).map(|n| format!("new {n}\n")).collect();
        let shown = unified(&old, &new);
        assert_eq!(shown.lines().count(), LINES_MAX + 1);
        assert!(shown.ends_with("more lines"), "{shown}");
        assert!(unified("", &"x".repeat(1_000)).chars().count() < 200);
    }
}
