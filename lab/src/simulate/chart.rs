//! The chart of a scenario, as SVG: how the variants do on held-out samples, over virtual time and over samples.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::scenario::Scenario;
use super::{FinishedRun, seconds};

const SIZE: (u32, u32) = (1100, 460);
/// Colours that colour-blind readers can tell apart (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

/// A line of a chart.
struct Line {
    variant: usize,
    points: Vec<(f64, f64)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Both charts, side by side. Each run is a line; the runs of a variant have one colour.
pub(super) fn svg(scenario: &Scenario, finished: &[FinishedRun]) -> Result<String> {
    let has_accuracy = finished
        .iter()
        .flat_map(|one| &one.points)
        .any(|point| point.evaluated.accuracy.is_some());
    let height = |point: &simulator::run::Point<run::goal::Evaluated>| {
        point
            .evaluated
            .accuracy
            .map_or(point.evaluated.loss, |accuracy| 100.0 * accuracy)
    };
    let lines = |across: fn(u64, f64) -> f64, has_sequential: bool| -> Vec<Line> {
        let drawn = finished.iter().filter(|one| has_sequential || one.stats.is_some());
        let line = |one: &FinishedRun| Line {
            variant: one.variant,
            points: one
                .points
                .iter()
                .map(|point| (across(point.samples, seconds(point.at)), height(point)))
                .filter(|(_, height)| height.is_finite())
                .collect(),
        };
        drawn.map(line).collect()
    };
    let quantity = if has_accuracy { "accuracy, %" } else { "loss" };
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let drawn = || -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
            root.fill(&WHITE)?;
            let root = root.titled(&scenario.name, ("sans-serif", 20))?;
            let halves = root.split_evenly((1, 2));
            let over_time = lines(|_, seconds| seconds / 60.0, false);
            let over_samples = lines(|samples, _| samples as f64 / 1e3, true);
            draw(&halves[0], scenario, &over_time, "virtual minutes", quantity)?;
            draw(
                &halves[1],
                scenario,
                &over_samples,
                "thousand samples in the model",
                quantity,
            )?;
            root.present()
        };
        drawn().map_err(|error| anyhow!("the chart can't be drawn: {error}"))?;
    }
    Ok(text)
}

fn draw(
    area: &Area<'_>,
    scenario: &Scenario,
    lines: &[Line],
    across: &str,
    quantity: &str,
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let most = |value: fn(&(f64, f64)) -> f64| points().map(value).fold(f64::NEG_INFINITY, f64::max);
    let least = points().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let (right, top) = (most(|point| point.0), most(|point| point.1));
    let (right, bottom, top) = if right.is_finite() {
        (right, least, top)
    } else {
        (1.0, 0.0, 1.0)
    };
    let margin = ((top - bottom) * 0.05).max(1e-3);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(54)
        .build_cartesian_2d(0.0..right.max(1e-9), bottom - margin..top + margin)?;
    chart
        .configure_mesh()
        .x_desc(across)
        .y_desc(quantity)
        .light_line_style(WHITE)
        .label_style(("sans-serif", 13))
        .draw()?;
    let mut named = vec![false; scenario.variants.len()];
    for line in lines {
        let colour = COLOURS[line.variant % COLOURS.len()];
        let series = chart.draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?;
        if !std::mem::replace(&mut named[line.variant], true) {
            series
                .label(scenario.variants[line.variant].name.clone())
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 13))
        .draw()
}
