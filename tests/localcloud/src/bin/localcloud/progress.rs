//! How far a function is, from its own log lines.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use localcloud::LogLine;
use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::report::{bytes, seconds};

/// Between two lines where lines cannot be redrawn.
const PERIOD: Duration = Duration::from_secs(3);

/// What is said while it works, on standard error; quiet for machines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Voice {
    quiet: bool,
    redraws: bool,
}

impl Voice {
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            quiet,
            redraws: !quiet && std::io::stderr().is_terminal(),
        }
    }

    pub(crate) fn say(self, text: &str) {
        if !self.quiet {
            eprintln!("{}{text}", if self.redraws { "\r\x1b[K" } else { "" });
        }
    }

    fn redraw(self, text: &str) {
        if self.redraws {
            eprint!("\r\x1b[K{text}");
            let _only_looks = std::io::stderr().flush();
        } else {
            self.say(text);
        }
    }

    /// Follows the functions' lines until it is dropped.
    pub(crate) async fn follow(self, mut lines: Receiver<LogLine>) {
        let mut said: Option<Instant> = None;
        loop {
            let line = match lines.recv().await {
                Ok(line) => line,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            let Some(text) = line_of(&line) else { continue };
            if self.redraws || said.is_none_or(|said| said.elapsed() >= PERIOD) {
                self.redraw(&text);
                said = Some(Instant::now());
            }
        }
    }
}

/// The line to show for a log line, if it tells progress.
fn line_of(line: &LogLine) -> Option<String> {
    let event: Value = serde_json::from_str(&line.text).ok()?;
    if event["message"] != "progress" {
        return None;
    }
    let number = |name: &str| event[name].as_f64();
    let what = match line.logical_id.as_str() {
        id if id.starts_with("Verify") => "verify",
        id if id.starts_with("Restore") => "restore",
        id if id.starts_with("Drill") => "drill",
        _ => "dump",
    };
    let mut text = what.to_owned();
    if let Some(percent) = number("percent") {
        text.push_str(&format!("  {percent:.0} %"));
    }
    if let (Some(done), Some(total)) = (number("jobs_done"), number("jobs_total")) {
        text.push_str(&format!("  {done} of {total} pieces"));
    }
    if let Some(left) = number("remaining") {
        text.push_str(&format!("  {left:.0} pieces left"));
    }
    if let Some(read) = number("bytes_read") {
        text.push_str(&format!("  {} read", bytes(read)));
    }
    if let Some(tables) = number("tables_total") {
        text.push_str(&format!("  {tables} tables"));
    }
    if let Some(copied) = number("copy_bytes").or(number("stored_bytes")) {
        text.push_str(&format!("  {}", bytes(copied)));
        if let Some(elapsed) = number("seconds").filter(|elapsed| *elapsed > 0.0) {
            text.push_str(&format!("  {}/s", bytes(copied / elapsed)));
        }
    }
    if let Some(left) = number("seconds_left") {
        text.push_str(&format!("  {} left", seconds(left)));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_progress_line_tells_how_much_how_fast_and_how_long() {
        let line = |text: &str| {
            line_of(&LogLine {
                logical_id: "DumpFunction".into(),
                text: text.into(),
            })
        };
        let progress = r#"{"message":"progress","jobs_done":3,"jobs_total":12,"tables_total":80,"copy_bytes":50000000,"percent":25,"seconds":2.0,"seconds_left":6.4}"#;
        let expected = "dump  25 %  3 of 12 pieces  80 tables  50 MB  25 MB/s  6 s left";
        assert_eq!(line(progress).as_deref(), Some(expected));
        let restoring = r#"{"message":"progress","remaining":7,"bytes_read":2500000}"#;
        let restoring = line_of(&LogLine {
            logical_id: "RestoreFunction".into(),
            text: restoring.into(),
        });
        assert_eq!(
            restoring.as_deref(),
            Some("restore  7 pieces left  2.5 MB read")
        );
        assert_eq!(line(r#"{"message":"committed"}"#), None);
        assert_eq!(line("START RequestId: 1"), None);
    }
}
