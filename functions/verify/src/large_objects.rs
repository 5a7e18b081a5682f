//! The large objects of one archive entry, read from the tar stream that an object decrypts to.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};

use shared::fingerprint::{Fingerprint, LargeObjectHash};

const PIECE_BYTES: usize = 128 << 10;
/// A line of the list is an oid and a file name.
const LINE_BYTES_MAX: u64 = 256;

/// What one tar stream holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LargeObjectsRead {
    pub count: u64,
    pub bytes: u64,
    pub fingerprint: Fingerprint,
    /// What `pg_restore` would stumble over.
    pub problem: Option<String>,
}

/// Reads to the end, in memory that does not grow with the objects' contents.
///
/// # Errors
///
/// Reading failed, or this is no tar stream; the caller can tell which.
pub fn read_large_objects(mut stream: impl Read) -> io::Result<LargeObjectsRead> {
    let mut read = LargeObjectsRead::default();
    let mut listed = BTreeSet::new();
    let mut present = BTreeSet::new();
    let mut lists = 0_u32;
    let mut archive = tar::Archive::new(&mut stream);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if is_list(&name) && entry.header().entry_type().is_file() {
            lists += 1;
            read_list(&mut entry, &mut listed, &mut read.problem)?;
        } else if let Some(oid) = oid_of(&name)
            && entry.header().entry_type().is_file()
        {
            if !present.insert(oid) {
                note(&mut read.problem, || format!("{name} is there twice"));
            }
            read.count += 1;
            read.bytes += hash_content(&mut entry, oid, &mut read.fingerprint)?;
        } else {
            note(&mut read.problem, || {
                format!("{name:?} does not belong there")
            });
        }
    }
    if lists != 1 {
        note(&mut read.problem, || {
            format!("{lists} lists of its objects instead of one")
        });
    }
    if let Some(oid) = listed.symmetric_difference(&present).next() {
        note(&mut read.problem, || {
            format!("blob_{oid}.dat is listed and missing, or there and not listed")
        });
    }
    if has_other_than_zeros(&mut stream)? {
        note(&mut read.problem, || "bytes follow the end".to_owned());
    }
    Ok(read)
}

fn note(problem: &mut Option<String>, text: impl FnOnce() -> String) {
    if problem.is_none() {
        *problem = Some(text());
    }
}

/// `blobs.toc`, or `blobs_<dump id>.toc` in newer archives.
fn is_list(name: &str) -> bool {
    let middle = name
        .strip_prefix("blobs")
        .and_then(|it| it.strip_suffix(".toc"));
    middle.is_some_and(|it| it.is_empty() || it.strip_prefix('_').is_some_and(is_number))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit())
}

/// Of `blob_<oid>.dat`.
fn oid_of(name: &str) -> Option<u32> {
    let oid = name.strip_prefix("blob_")?.strip_suffix(".dat")?;
    is_number(oid).then(|| oid.parse().ok()).flatten()
}

/// Lines `<oid> blob_<oid>.dat`.
fn read_list(
    list: impl Read,
    listed: &mut BTreeSet<u32>,
    problem: &mut Option<String>,
) -> io::Result<()> {
    let mut list = BufReader::new(list);
    let mut line = Vec::new();
    loop {
        line.clear();
        if list
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?
            == 0
        {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let parts = text.strip_suffix('\n').and_then(|it| it.split_once(' '));
        let oid = parts.and_then(|(oid, file)| {
            let named = oid_of(file)?;
            (oid.parse() == Ok(named)).then_some(named)
        });
        match oid {
            Some(oid) if listed.insert(oid) => {}
            Some(oid) => note(problem, || format!("the list names {oid} twice")),
            None => note(problem, || "the list has a malformed line".to_owned()),
        }
    }
}

fn hash_content(content: &mut impl Read, oid: u32, sum: &mut Fingerprint) -> io::Result<u64> {
    let mut hash = LargeObjectHash::new(oid);
    let mut buffer = vec![0; PIECE_BYTES];
    let mut bytes = 0;
    loop {
        let n = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.push(&buffer[..n]);
        bytes += n as u64;
    }
    *sum += hash.finish();
    Ok(bytes)
}

/// tar pads its end with zeros.
fn has_other_than_zeros(rest: &mut impl Read) -> io::Result<bool> {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut found = false;
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => return Ok(found),
            Ok(n) => found |= buffer[..n].iter().any(|it| *it != 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    const LIST: (&str, &[u8]) = ("blobs.toc", b"500 blob_500.dat\n501 blob_501.dat\n");

    #[test]
    fn contents_are_counted_and_fingerprinted() {
        let bytes = tar(&[
            LIST,
            ("blob_500.dat", b"five\nhundred"),
            ("blob_501.dat", b""),
        ]);
        let mut expected = LargeObjectHash::new(500);
        expected.push(b"five\nhundred");
        let read = read_large_objects(&*bytes).unwrap();
        assert_eq!(
            read,
            LargeObjectsRead {
                count: 2,
                bytes: 12,
                fingerprint: expected.finish() + LargeObjectHash::new(501).finish(),
                problem: None,
            }
        );
    }

    #[test]
    fn what_pg_restore_would_stumble_over_is_told() {
        let one: (&str, &[u8]) = ("blob_500.dat", b"a");
        let two: (&str, &[u8]) = ("blob_501.dat", b"b");
        let short: (&str, &[u8]) = ("blobs_7.toc", b"500 blob_500.dat\n");
        for (files, expected) in [
            (vec![one, two], "0 lists"),
            (vec![LIST, one], "blob_501.dat is listed and missing"),
            (
                vec![short, one, two],
                "blob_501.dat is listed and missing, or there",
            ),
            (vec![LIST, one, one, two], "blob_500.dat is there twice"),
            (
                vec![LIST, one, two, ("x", b"")],
                "\"x\" does not belong there",
            ),
            (
                vec![("blobs.toc", b"500 blob_501.dat\n"), two],
                "malformed line",
            ),
        ] {
            let problem = read_large_objects(&*tar(&files)).unwrap().problem.unwrap();
            assert!(problem.contains(expected), "{problem}");
        }
        let mut longer = tar(&[LIST, one, two]);
        longer.push(1);
        assert!(read_large_objects(&*longer).unwrap().problem.is_some());
    }

    #[test]
    fn a_stream_that_ends_early_is_an_error() {
        let bytes = tar(&[LIST, ("blob_500.dat", &[7; 600]), ("blob_501.dat", b"")]);
        assert!(read_large_objects(&bytes[..1_500]).is_err());
    }
}
