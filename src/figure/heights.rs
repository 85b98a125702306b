//! The y axes of a chart: what its marks reach, with air, within what values there can be.

use super::chart::{Chart, Marks};
use super::data::{Cell, Data};
use super::{bars, violins};
use crate::plot::axis::YAxis;
use crate::plot::scale::{self, Steps};

impl Chart {
    /// The y axes: one of each y column, or one of each panel.
    pub(super) fn y_axes(&self, data: &Data, several: bool) -> Vec<YAxis> {
        let wanted = if several { 4 } else { 5 };
        match self.free.1 {
            true => (0..data.panels.len())
                .map(|panel| self.y_axis(&data.cells.iter().filter(|cell| cell.panel == panel).collect::<Vec<_>>(), data, wanted))
                .collect(),
            false => (0..data.panels.len() / data.panels_per_row)
                .map(|index| self.y_axis(&data.sharing(index * data.panels_per_row).collect::<Vec<_>>(), data, wanted))
                .collect(),
        }
    }

    fn y_axis(&self, cells: &[&Cell], data: &Data, wanted: usize) -> YAxis {
        let cells = || cells.iter().copied();
        let (least, greatest) = match self.marks {
            Marks::Lines | Marks::Bars => {
                let of = |cell: &Cell| {
                    let ends = cell.ends().map_or([cell.mean; 2], |ends| ends.map(|end| end.value));
                    let rows = if self.dots { scale::extent(cell.values.iter().copied()) } else { (cell.mean, cell.mean) };
                    [ends[0], cell.mean, ends[1], rows.0, rows.1]
                };
                let each = data
                    .each
                    .iter()
                    .filter(|line| cells().any(|cell| cell.panel == line.0))
                    .flat_map(|line| line.2.iter().map(|point| point.1));
                scale::extent(cells().flat_map(of).chain(each))
            }
            Marks::Points => scale::extent(cells().flat_map(|cell| cell.values.iter().copied())),
            Marks::Violins => scale::extent(cells().flat_map(|cell| {
                let (least, greatest) = violins::reach(&cell.values, cell.bounds);
                [least, greatest]
            })),
        };
        let (least, greatest) = match least <= greatest {
            true => (least, greatest),
            // A panel without values.
            false => (0.0, 1.0),
        };
        let across = self.references.iter().filter(|reference| !reference.upright).flat_map(|reference| [reference.from, reference.to]);
        let (least, greatest) = scale::extent(across.chain([least, greatest]));
        if let Some(range) = self.y_range {
            return YAxis::of(range, wanted, self.y_steps);
        }
        let bounds = (scale::extent(cells().map(|cell| cell.bounds.0)).0, scale::extent(cells().map(|cell| cell.bounds.1)).1);
        // No bounds of no values.
        let bounds = if bounds.0 < bounds.1 { bounds } else { (f64::NEG_INFINITY, f64::INFINITY) };
        let range = match (self.y_steps, self.marks) {
            // The lower end of a spread may lie below zero, where logarithms end: there the values decide.
            (Steps::Log(_), _) => {
                let values = scale::extent(cells().flat_map(|cell| cell.values.iter().copied()));
                if values.0 > 0.0 && values.1.is_finite() { (values.0 / 1.15, (values.1 * 1.15).min(f64::MAX)) } else { (0.1, 10.0) }
            }
            (Steps::Linear, Marks::Bars) => scale::rounded(bars::range(data, (least, greatest)), wanted, bounds),
            (Steps::Linear, _) => scale::rounded(scale::range(least, greatest, false), wanted, bounds),
        };
        YAxis::of(range, wanted, self.y_steps).within(bounds)
    }
}
