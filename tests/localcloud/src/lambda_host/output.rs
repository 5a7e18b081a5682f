//! What a function writes: kept in its log file, passed on live, metrics taken out.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::broadcast;

use crate::metrics::Metrics;

/// One line that a function wrote.
#[derive(Clone, Debug)]
pub struct LogLine {
    pub logical_id: String,
    pub text: String,
}

/// The sink of one instance's output.
#[derive(Clone, Debug)]
pub(super) struct Log {
    logical_id: String,
    file: Arc<Mutex<std::fs::File>>,
    lines: broadcast::Sender<LogLine>,
    metrics: Arc<Metrics>,
}

impl Log {
    pub(super) fn open(
        path: &Path,
        logical_id: &str,
        lines: broadcast::Sender<LogLine>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)?;
        Ok(Self {
            logical_id: logical_id.to_owned(),
            file: Arc::new(Mutex::new(file)),
            lines,
            metrics,
        })
    }

    pub(super) fn write(&self, text: &str) {
        let mut line = text.to_owned();
        line.push('\n');
        // One write per line, so that lines of instances that share the file do not mix. A full disk must not stop the function.
        let _best_effort = self
            .file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(line.as_bytes());
        self.metrics.record_line(text);
        let _nobody_listens = self.lines.send(LogLine {
            logical_id: self.logical_id.clone(),
            text: text.to_owned(),
        });
    }

    /// Copies lines until the writer is gone.
    pub(super) async fn copy(self, output: impl AsyncRead + Unpin) {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .await
            .is_ok_and(|read| read > 0)
        {
            self.write(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
    }
}
