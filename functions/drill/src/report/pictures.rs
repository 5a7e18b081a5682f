//! What a person would rather see: the steps on one axis, the budgets, the checks as tiles.
//! Drawn 340 units wide, which is the width of a phone, so that text keeps its size there.

use maud::{Markup, html};

use super::tables::{anchor, icon, status_class};
use crate::evidence::Evidence;
use crate::timing::{Timed, label, part, short_seconds};

const WIDTH: f64 = 340.0;
const LABEL: f64 = 78.0;
const VALUE: f64 = 66.0;
const ROW: f64 = 26.0;
const BAR: f64 = 14.0;

/// Every step from its beginning to its end, on one axis.
pub(super) fn timeline(evidence: &Evidence) -> Markup {
    let steps = &evidence.timing.steps;
    let begun_at = evidence.timing.begun_at;
    let from = |step: &Timed| {
        step.started_at
            .duration_since(begun_at)
            .as_secs_f64()
            .max(0.0)
    };
    let total = steps
        .iter()
        .map(|it| from(it) + it.seconds)
        .fold(1.0, f64::max);
    let room = WIDTH - LABEL - VALUE;
    let x = |seconds: f64| LABEL + room * (seconds / total).clamp(0.0, 1.0);
    let height = ROW * count(steps.len()) + 22.0;
    let described = format!(
        "Timeline of {} steps, {} in all",
        steps.len(),
        short_seconds(total)
    );
    html! {
        @if !steps.is_empty() {
            section {
                h2 { "How long each step took" }
                svg.picture viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(described) {
                    @for part in 0..=2 {
                        @let at = total * f64::from(part) / 2.0;
                        line.grid x1=(x(at)) x2=(x(at)) y1="0" y2=(height - 18.0) {}
                        text class=(if part == 1 { "dim mid" } else if part == 2 { "dim end" } else { "dim" })
                            x=(x(at)) y=(height - 4.0) { (short_seconds(at)) }
                    }
                    @for (index, step) in steps.iter().enumerate() {
                        @let y = ROW * count(index);
                        @let begin = x(from(step));
                        @let end = x(from(step) + step.seconds);
                        text x="0" y=(y + 15.0) { (label(&step.name)) }
                        rect class=(if step.name == "failed" { "bad" } else { "calm" })
                            x=(begin) y=(y + 4.0) width=((end - begin).max(2.0)) height=(BAR) rx="3" {}
                        text.dim.end x=(WIDTH) y=(y + 15.0) { (short_seconds(step.seconds)) }
                    }
                }
            }
        }
    }
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

/// Each part of the drill as a bar, with its budget as a line across.
pub(super) fn budgets(evidence: &Evidence) -> Markup {
    let budgets = &evidence.timing.budgets;
    let row = 44.0;
    let height = row * count(budgets.len());
    html! {
        @if !budgets.is_empty() {
            section {
                h2 { "Against the budget" }
                svg.picture viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label="Seconds of each part against its budget" {
                    @for (index, budget) in budgets.iter().enumerate() {
                        @let y = row * count(index);
                        @let seconds = budget.seconds.unwrap_or_default();
                        // The budget stands at three quarters, unless it was missed by more.
                        @let scale = (budget.budget_seconds / 0.75).max(seconds);
                        @let x = |at: f64| WIDTH * (at / scale).clamp(0.0, 1.0);
                        @let state = if budget.kept { "good" } else { "bad" };
                        @let words = match budget.seconds {
                            Some(seconds) => format!("{} of {}", short_seconds(seconds), short_seconds(budget.budget_seconds)),
                            None => format!("not reached, of {}", short_seconds(budget.budget_seconds)),
                        };
                        text x="0" y=(y + 13.0) { (part(&budget.name)) }
                        text class=(if budget.kept { "end" } else { "end late" }) x=(WIDTH) y=(y + 13.0) { (words) }
                        rect.track x="0" y=(y + 20.0) width=(WIDTH) height="12" rx="3" {}
                        rect class=(state) x="0" y=(y + 20.0) width=(x(seconds).max(2.0)) height="12" rx="3" {}
                        line.limit x1=(x(budget.budget_seconds)) x2=(x(budget.budget_seconds)) y1=(y + 17.0) y2=(y + 35.0) {}
                    }
                }
            }
        }
    }
}

/// One tile each, in the colour and with the sign of its outcome; the worst first.
pub(super) fn checks(evidence: &Evidence) -> Markup {
    let checks = super::tables::worst_first(evidence);
    html! {
        @if !checks.is_empty() {
            section {
                h2 { (super::tables::counted(evidence)) }
                div.tiles {
                    @for check in checks {
                        a class={ "tile " (status_class(check.status)) } href={ "#" (anchor(check)) } {
                            (icon(check.status)) span { (check.name) }
                        }
                    }
                }
            }
        }
    }
}
