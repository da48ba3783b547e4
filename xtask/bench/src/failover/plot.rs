//! A picture of the runs: a lane for each scenario, a dot for each run, on a logarithmic axis of milliseconds.

use std::fmt::Write as _;

use super::table::ID;
use crate::report::Section;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 200.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 56.0;
const LANE: f64 = 46.0;
/// Left of the axis: where nothing, or less than a millisecond, was undelivered.
const NONE: f64 = 60.0;
/// The axis ends at 30 s.
const LAST_MS: f64 = 30_000.0;

const OURS: &str = "#1f6feb";
const THEIRS: &str = "#d1662a";

/// The failover table as SVG; `None` without one.
pub fn svg(sections: &[Section]) -> Option<String> {
    let section = sections.iter().find(|section| section.id == ID)?;
    let height = TOP + LANE * section.rows.len() as f64 + 58.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"#24292f\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"16\" font-weight=\"bold\">Longest stretch in which a client's packets were \
         undelivered</text>\n"
    );
    axis(&mut svg, height - 58.0);
    for (number, (name, _)) in section.rows.iter().enumerate() {
        let y = TOP + LANE * (number as f64 + 0.5);
        lane(&mut svg, section, name, y);
    }
    text(
        &mut svg,
        LEFT + NONE,
        height - 14.0,
        "start",
        "milliseconds, one dot for each run; the bar is their median",
    );
    svg.push_str("</svg>\n");
    Some(svg)
}

/// Ticks at the decades and their threes.
fn axis(svg: &mut String, bottom: f64) {
    text(svg, x(0.0), bottom + 18.0, "middle", "< 1");
    rule(svg, x(0.0), bottom, "#d0d7de");
    for decade in [1.0, 10.0, 100.0, 1000.0, 10_000.0] {
        for times in [1.0, 3.0] {
            let at = x(decade * times);
            rule(svg, at, bottom, if times == 1.0 { "#afb8c1" } else { "#eaeef2" });
            text(svg, at, bottom + 18.0, "middle", &format!("{}", decade * times));
        }
    }
}

fn rule(svg: &mut String, x: f64, bottom: f64, colour: &str) {
    let _ = writeln!(svg, "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"{colour}\"/>");
}

fn lane(svg: &mut String, section: &Section, name: &str, y: f64) {
    let values = section.series(name, "runs_undelivered_ms");
    let colour = if name.contains("keepalived") { THEIRS } else { OURS };
    text(svg, LEFT - 10.0, y + 4.0, "end", name);
    for (run, value) in values.iter().enumerate() {
        // Up and down in a fixed order, so that equal values lie beside each other.
        let y = y + (run * 7 % 11) as f64 * 2.4 - 12.0;
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"3.4\" fill=\"{colour}\" fill-opacity=\"0.55\"/>",
            x(*value)
        );
    }
    let (median, failed) = (section.median(name, "undelivered_ms"), section.median(name, "failed"));
    if median.is_finite() {
        let at = x(median);
        let (from, to) = (y - 17.0, y + 17.0);
        let _ = writeln!(svg, "<path d=\"M{at:.1} {from}V{to}\" stroke=\"{colour}\" stroke-width=\"2.5\"/>");
        text(svg, WIDTH - RIGHT + 16.0, y - 3.0, "start", &format!("median {median:.0} ms"));
        let worst = section.median(name, "worst_ms");
        text(svg, WIDTH - RIGHT + 16.0, y + 13.0, "start", &format!("worst {worst:.0} ms"));
    }
    if failed > 0.0 {
        text(svg, LEFT - 10.0, y + 19.0, "end", &format!("({failed:.0} failed)"));
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

/// Where a number of milliseconds lies.
fn x(milliseconds: f64) -> f64 {
    let (from, to) = (LEFT + NONE, WIDTH - RIGHT);
    if milliseconds < 1.0 {
        return LEFT + NONE / 3.0;
    }
    from + (to - from) * (milliseconds.min(LAST_MS).log10() / LAST_MS.log10())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decade_is_as_wide_as_the_next_and_less_than_a_millisecond_lies_before_them() {
        let widths = [1.0, 10.0, 100.0, 1000.0].map(|from| x(from * 10.0) - x(from));
        assert!(widths.iter().all(|width| (width - widths[0]).abs() < 1e-6), "{widths:?}");
        assert!(x(0.0) < x(1.0) && x(0.0) > LEFT);
        assert!((x(LAST_MS) - (WIDTH - RIGHT)).abs() < 1e-6);
    }
}
