//! Asking the person at the terminal.

use std::io::{IsTerminal, Write};

use crate::Failure;
use crate::arguments::Restore;

/// What was decided, and by whom.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The target's name as it was typed; `None` refuses.
    pub(crate) typed: Option<String>,
    pub(crate) operator: String,
}

/// Shows the plan and asks for the target's name, unless `--yes` has answered already.
pub(crate) async fn ask(
    arguments: &Restore,
    plan: &str,
    target_name: &str,
) -> Result<Answer, Failure> {
    eprintln!("\n{plan}\n");
    let operator = arguments
        .operator
        .clone()
        .or_else(localcloud::workspace::user)
        .unwrap_or_else(|| "localcloud".to_owned());
    if arguments.yes {
        return Ok(Answer {
            typed: Some(target_name.to_owned()),
            operator,
        });
    }
    if !std::io::stdin().is_terminal() {
        eprintln!("refused: nobody is at a terminal to approve it; --yes approves in a script");
        return Ok(Answer {
            typed: None,
            operator,
        });
    }
    let mut stderr = std::io::stderr();
    let _only_asks = write!(
        stderr,
        "To approve, type the name of the target ({target_name}); anything else refuses: "
    )
    .and_then(|()| stderr.flush());
    // Apart, so that Ctrl-C is heard while it waits.
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let line = line.await.map_err(|_| Failure::BrokenOff)?;
    let line = line.map_err(|source| Failure::File {
        what: "the terminal".to_owned(),
        source,
    })?;
    let typed = line.trim();
    Ok(Answer {
        typed: (typed == target_name).then(|| typed.to_owned()),
        operator,
    })
}
