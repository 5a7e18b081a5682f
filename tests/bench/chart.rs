//! The report as a picture: groups of bars, shorter is better.

use std::fmt::Write as _;

use crate::report::{Line, Report};
use crate::restore_report::{RestoreLine, RestoreReport};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 230.0;
/// The longest bar; its number stands beside it.
const BAR: f64 = 440.0;
const ROW: f64 = 22.0;
const GAP: f64 = 34.0;
const TOP: f64 = 64.0;

/// A group of bars: title, unit, and what each is called and how long it is.
type Group = (&'static str, &'static str, Vec<(String, f64)>);

pub(crate) fn svg(report: &Report) -> String {
    let bars = |value: &dyn Fn(&Line) -> f64| {
        let lines = report.medians.iter();
        lines.map(|it| (it.contestant.clone(), value(it))).collect()
    };
    let groups = [
        ("Wall time", "s", bars(&|it| it.wall_seconds)),
        (
            "CPU time of the client programs",
            "s",
            bars(&|it| it.client_cpu_seconds),
        ),
        ("Stored", "MB", bars(&|it| it.stored_bytes / 1e6)),
    ];
    let subtitle = format!(
        "{:.2} GB of COPY text, PostgreSQL {} and S3 on the same machine, {} CPUs, {} connections, median of {}",
        report.copy_bytes as f64 / 1e9,
        report.server_version,
        report.cpus,
        report.connections,
        report.runs
    );
    draw("One backup into S3 (shorter is better)", &subtitle, &groups)
}

pub(crate) fn restore_svg(report: &RestoreReport) -> String {
    let line = |it: &RestoreLine| (it.restorer.clone(), it.wall_seconds);
    let of_one_table = |it: &&RestoreLine| it.restorer.contains("one table");
    let whole = report.medians.iter().filter(|it| !of_one_table(it));
    let tables = report.medians.iter().filter(of_one_table);
    let memory = report.medians.iter();
    let groups = [
        ("The whole database", "s", whole.map(line).collect()),
        ("One table of 10 MB", "s", tables.map(line).collect()),
        (
            "Memory of the client programs",
            "MB",
            memory
                .map(|it| (it.restorer.clone(), it.peak_memory_bytes / 1e6))
                .collect(),
        ),
    ];
    let subtitle = format!(
        "PostgreSQL {} and S3 on the same machine, {} CPUs, {} connections, median of {}",
        report.server_version, report.cpus, report.connections, report.runs
    );
    draw(
        "From S3 back into a database (shorter is better)",
        &subtitle,
        &groups,
    )
}

fn draw(title: &str, subtitle: &str, groups: &[Group]) -> String {
    let mut body = String::new();
    let mut y = TOP;
    for (title, unit, bars) in groups {
        y += GAP;
        text(&mut body, (LEFT, y - 10.0), "class=\"group\"", title);
        let longest = bars.iter().map(|it| it.1).fold(0.0, f64::max);
        for (name, value) in bars.iter().filter(|it| it.1 > 0.0) {
            bar(&mut body, y, name, (*value, longest, unit));
            y += ROW;
        }
    }
    let height = y + 16.0;
    let mut head = String::new();
    text(&mut head, (24.0, 30.0), "class=\"title\"", title);
    text(&mut head, (24.0, 50.0), "class=\"quiet\"", subtitle);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
         <style>text {{ font: 13px system-ui, sans-serif; fill: #1f2933 }} .title {{ font-size: 17px; font-weight: 600 }} \
         .group {{ font-weight: 600 }} .quiet {{ font-size: 12px; fill: #616e7c }} .name {{ text-anchor: end }} \
         .ours {{ fill: #0b7285 }} .others {{ fill: #b8c4cc }} .floor {{ fill: #e4e9ed }}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{head}{body}</svg>\n"
    )
}

fn bar(body: &mut String, y: f64, name: &str, (value, longest, unit): (f64, f64, &str)) {
    let class = match name {
        name if name.starts_with("lifeboat") => "ours",
        name if name.starts_with("floor") => "floor",
        _ => "others",
    };
    let width = (value / longest * BAR).max(1.0);
    text(body, (LEFT - 10.0, y + 13.0), "class=\"name\"", name);
    // Writing to a String cannot fail.
    let _infallible = writeln!(
        body,
        "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" rx=\"2\"/>",
        ROW - 5.0
    );
    let number = if value < 100.0 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    };
    text(body, (LEFT + width + 7.0, y + 13.0), "", &number);
}

fn text(body: &mut String, (x, y): (f64, f64), attributes: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _infallible = writeln!(
        body,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{text}</text>"
    );
}
