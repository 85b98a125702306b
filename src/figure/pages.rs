//! Of more panels than one figure holds, those of a page.

use super::data::Data;
use crate::error::Result;
use crate::plot::settings::{MOST_PANELS, Settings};

impl Data {
    /// Keeps the panels of the page that is asked for.
    ///
    /// # Errors
    /// There is no such page.
    pub(crate) fn turn(&mut self, settings: &Settings) -> Result<()> {
        let blocks = self.panels.len() / self.panels_per_row;
        let across = self.panels_per_row / self.row_names.len().max(1);
        let unit = if self.row_names.is_empty() { 1 } else { across };
        let (range, page) = settings.paged(self.panels_per_row, unit, (MOST_PANELS / blocks).max(1))?;
        if page.is_none() {
            return Ok(());
        }
        let (panels_per_row, kept) = (self.panels_per_row, range.len());
        let moved = |panel: usize| {
            range.contains(&(panel % panels_per_row)).then(|| panel / panels_per_row * kept + panel % panels_per_row - range.start)
        };
        let heads: Vec<String> = self.panels.iter().take(unit).cloned().collect();
        let mut panel = 0..;
        self.panels.retain(|_| panel.next().is_some_and(|panel| moved(panel).is_some()));
        if !self.row_names.is_empty() {
            self.panels.iter_mut().zip(heads).for_each(|(panel, head)| *panel = head);
            self.row_names = self.row_names[range.start / unit..range.end / unit].to_vec();
        }
        self.cells.retain_mut(|cell| moved(cell.panel).map(|panel| cell.panel = panel).is_some());
        self.each.retain_mut(|line| moved(line.0).map(|panel| line.0 = panel).is_some());
        (self.panels_per_row, self.page, self.turned) = (kept, page, Some(range));
        Ok(())
    }

    /// Of the axes of all panels, those of this page: one of each y column, or one of each panel.
    pub(crate) fn kept<T>(&self, axes: Vec<T>) -> Vec<T> {
        let blocks = self.panels.len() / self.panels_per_row;
        let Some(range) = self.turned.clone().filter(|_| axes.len() > blocks) else { return axes };
        let each = axes.len() / blocks;
        axes.into_iter().enumerate().filter(|(at, _)| range.contains(&(at % each))).map(|(_, axis)| axis).collect()
    }
}
