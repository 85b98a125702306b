//! The difference of two panels of a heat map, as a third.

use std::collections::HashMap;

use super::cells::{Cell, Cells, Columns};
use crate::error::{Error, Result};
use crate::method::Method;
use crate::plot::scale::shown;
use crate::plot::settings::Settings;

impl Cells {
    /// Leaves the panels `first` and `second`, and adds the second less the first, where both have a value.
    ///
    /// # Errors
    /// One of them is not there, or they are the same, or they have no place in common.
    pub(super) fn differ(&mut self, columns: &Columns, settings: &Settings, first: &str, second: &str) -> Result<()> {
        let facet = settings.facet.as_deref().unwrap_or_default();
        if settings.rows.is_some() {
            return Err(Error::input(
                "figure: a difference has its three panels and no rows of panels: filter the frame with `only` first",
            ));
        }
        let place = |name: &str| {
            let canonical = Method::canonical(name);
            // Panels of numbers are called after their column, too.
            let is = |panel: &String| *panel == canonical || panel.strip_suffix(name).is_some_and(|rest| rest.ends_with(' '));
            self.panels.iter().position(is).ok_or_else(|| {
                let there: Vec<String> = self.panels.iter().take(12).map(|panel| format!("`{panel}`")).collect();
                Error::input(format!("figure: column `{facet}` has no `{name}` for the difference; it has {}", there.join(", ")))
            })
        };
        let (a, b) = (place(first)?, place(second)?);
        if a == b {
            return Err(Error::input(format!("figure: a difference needs two values of column `{facet}`, not `{first}` twice")));
        }
        let kept = [a, b];
        self.cells.retain_mut(|cell| kept.iter().position(|panel| *panel == cell.panel).map(|panel| cell.panel = panel).is_some());
        let of = |panel: usize| self.cells.iter().filter(move |cell| cell.panel == panel);
        let there: HashMap<(usize, usize), f64> = of(0).map(|cell| ((cell.y, cell.x), cell.value)).collect();
        let differ = |cell: &Cell| {
            let value = cell.value - there.get(&(cell.y, cell.x))?;
            Some(Cell { panel: 2, value, text: shown(value), besides: String::new(), ..cell.clone() })
        };
        let differences: Vec<Cell> = of(1).filter_map(differ).collect();
        if differences.is_empty() {
            return Err(Error::input(format!(
                "figure: `{first}` and `{second}` have no place of `{}` and `{}` in common: there is nothing to subtract",
                columns.x, columns.y
            )));
        }
        self.cells.extend(differences);
        self.cells.sort_by_key(|cell| (cell.panel, cell.y, cell.x));
        let (a, b) = (self.panels[a].clone(), self.panels[b].clone());
        // `IA2 → SFT − SFT` would be read in another way.
        let one = |name: &String| if name.contains(' ') { format!("({name})") } else { name.clone() };
        let less = format!("{} − {}", one(&b), one(&a));
        self.panels = vec![a, b, less];
        Ok(())
    }
}
