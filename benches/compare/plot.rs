//! The results, as a picture: how far each is from its aim.

use std::fmt::Write as _;

use crate::report::Finding;

const WIDTH: f64 = 860.0;
/// Where the bars begin, and how long one is that is just as good as its aim.
const LEFT: f64 = 400.0;
const AIM: f64 = 150.0;
/// A bar is cut off where it would leave the picture.
const STANDING_MAX: f64 = 1.9;
const TOP: f64 = 56.0;
const STEP: f64 = 26.0;
const BAR: f64 = 14.0;

/// Readable on light and on dark ground, and without colour.
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.head{font-weight:600;font-size:15px}\
    .small{font-size:11px;fill:#59636e}.met{fill:#1a7f37}.missed{fill:#bc4c00}\
    .aim{stroke:#1f2328;stroke-width:1.5;stroke-dasharray:4 3}\
    @media(prefers-color-scheme:dark){text{fill:#f0f6fc}.small{fill:#9198a1}.met{fill:#3fb950}\
    .missed{fill:#f0883e}.aim{stroke:#f0f6fc}}";

/// A picture of all findings that have an aim.
pub fn svg(findings: &[Finding], machine: &str) -> String {
    let aimed: Vec<(&Finding, f64)> =
        findings.iter().filter_map(|finding| Some((finding, finding.standing()?))).collect();
    let bottom = aimed.iter().fold(TOP, |bottom, _| bottom + STEP);
    let height = bottom + 30.0;
    let met = aimed.iter().filter(|(_, standing)| *standing >= 1.0).count();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-labelledby=\"title summary\">\n\
         <title id=\"title\">What was measured, relative to its aim</title>\n\
         <desc id=\"summary\">{met} of {} figures meet their aim. The figures stand in the table beside this \
         picture.</desc>\n<style>{STYLE}</style>\n\
         <text class=\"head\" x=\"8\" y=\"22\">What was measured, relative to its aim</text>\n\
         <text class=\"small\" x=\"{}\" y=\"42\" text-anchor=\"middle\">the aim</text>\n\
         <text class=\"small\" x=\"{}\" y=\"42\">longer is better</text>\n",
        aimed.len(),
        LEFT + AIM,
        LEFT + AIM + 40.0,
    );
    let mut y = TOP;
    for (finding, standing) in aimed {
        let length = standing.min(STANDING_MAX) * AIM;
        let class = if standing >= 1.0 { "met" } else { "missed" };
        let (middle, end) = (y + BAR - 3.0, LEFT + length + 6.0);
        let (name, aim) = (escaped(&finding.name), escaped(&finding.aim()));
        let digits = if finding.unit.is_empty() { 2 } else { 0 };
        let figure = format!("{:.digits$} {}", finding.middle(), finding.unit);
        writeln!(
            text,
            "<text x=\"8\" y=\"{middle}\">{name}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>\
             <text x=\"{end:.1}\" y=\"{middle}\">{} <tspan class=\"small\">({aim}{})</tspan></text>",
            figure.trim_end(),
            if standing >= 1.0 { "" } else { ", missed" },
        )
        .unwrap();
        y += STEP;
    }
    let x = LEFT + AIM;
    writeln!(text, "<line class=\"aim\" x1=\"{x}\" x2=\"{x}\" y1=\"{}\" y2=\"{bottom}\"/>", TOP - 8.0)
        .unwrap();
    writeln!(
        text,
        "<text class=\"small\" x=\"8\" y=\"{}\">{}</text>\n</svg>",
        height - 8.0,
        escaped(machine)
    )
    .unwrap();
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
