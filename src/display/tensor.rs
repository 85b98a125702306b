//! Tensors: what they are, what they hold in short, and their first values.

use tch::{Kind, Tensor};

use super::{Bundle, Grid, Show, number};
use crate::error::Result;

/// Rows and columns of first values.
const ROWS: i64 = 6;
const COLUMNS: i64 = 8;

impl Show for Tensor {
    fn bundle(&self) -> Bundle {
        if !self.defined() {
            return Bundle::text("tensor (undefined)");
        }
        let facts = facts(self);
        // A layout that libtorch cannot summarise (sparse, quantised) still has its facts.
        match tch::no_grad(|| summary(self)) {
            Ok(Some((numbers, grid))) => Bundle {
                plain: format!("{facts}\n{numbers}\n{}", grid.plain()),
                html: Some(format!("<p>{}<br>{}</p>\n{}", super::escape(&facts), super::escape(&numbers), grid.html())),
                ..Bundle::default()
            },
            Ok(None) | Err(_) => Bundle::text(facts),
        }
    }
}

fn facts(tensor: &Tensor) -> String {
    let kind = tensor.f_kind().map_or_else(|_| "of unknown kind".to_owned(), |kind| format!("{kind:?}"));
    let grad = if tensor.requires_grad() { ", requires grad" } else { "" };
    format!("tensor {kind} {:?} on {:?}{grad}, {} values", tensor.size(), tensor.device(), tensor.numel())
}

/// `min 0, mean 0.5, max 1` and the table of first values; `None` for an empty tensor.
fn summary(tensor: &Tensor) -> Result<Option<(String, Grid)>> {
    if tensor.numel() == 0 || tensor.f_is_complex()? {
        return Ok(None);
    }
    Ok(Some((numbers(tensor)?, first_values(tensor)?)))
}

fn numbers(tensor: &Tensor) -> Result<String> {
    let value = |tensor: Tensor| -> Result<f64> { Ok(tensor.f_to_kind(Kind::Double)?.f_double_value(&[])?) };
    if tensor.f_kind()? == Kind::Bool {
        let yes = tensor.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        return Ok(format!("{yes} of {} true", tensor.numel()));
    }
    let finite = tensor.f_isfinite()?;
    let good = finite.f_sum(Kind::Int64)?.f_int64_value(&[])?;
    let mut parts = Vec::new();
    if good > 0 {
        // Selecting copies: only where something has to be left out.
        let chosen = if good == tensor.numel() as i64 { tensor.f_detach()? } else { tensor.f_masked_select(&finite)? };
        let (least, mean, greatest) = (value(chosen.f_min()?)?, value(chosen.f_mean(Kind::Double)?)?, value(chosen.f_max()?)?);
        parts.push(format!("min {}, mean {}, max {}", number(least), number(mean), number(greatest)));
    }
    if good < tensor.numel() as i64 {
        let nan = tensor.f_isnan()?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        parts.push(format!("{nan} NaN, {} infinite", tensor.numel() as i64 - good - nan));
    }
    Ok(parts.join(", "))
}

/// The top left corner of the last two axes, at index 0 of all others.
fn first_values(tensor: &Tensor) -> Result<Grid> {
    let mut corner = tensor.f_detach()?;
    while corner.dim() > 2 {
        corner = corner.f_select(0, 0)?;
    }
    let (rows, columns) = match corner.size()[..] {
        [rows, columns] => (rows, columns),
        [columns] => (1, columns),
        _ => (1, 1),
    };
    let shown = (rows.min(ROWS), columns.min(COLUMNS));
    let corner = corner.f_reshape([rows, columns])?.f_narrow(0, 0, shown.0)?.f_narrow(1, 0, shown.1)?;
    let whole = !corner.f_is_floating_point()?;
    let values = Vec::<Vec<f64>>::try_from(&corner.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Double)?.f_contiguous()?)?;
    let flat: Vec<Option<f64>> = values.concat().into_iter().map(Some).collect();
    let text = if whole { flat.iter().flatten().map(|value| format!("{value:.0}")).collect() } else { super::number::column(&flat) };
    let mut rows_of_text: Vec<Vec<String>> = text.chunks(shown.1.max(1) as usize).map(<[String]>::to_vec).collect();
    if columns > shown.1 {
        rows_of_text.iter_mut().for_each(|row| row.push("…".to_owned()));
    }
    let mut notes = Vec::new();
    if tensor.numel() as i64 > shown.0 * shown.1 {
        let others = tensor.dim().saturating_sub(2);
        let mut index = vec!["0".to_owned(); others];
        index.extend(
            [rows, columns].iter().zip([shown.0, shown.1]).skip(2usize.saturating_sub(tensor.dim())).map(|(_, end)| format!("..{end}")),
        );
        notes.push(format!("the values at [{}]", index.join(", ")));
    }
    let width = rows_of_text.first().map_or(0, Vec::len);
    Ok(Grid { heading: Vec::new(), right: vec![true; width], rows: rows_of_text, notes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device::Cpu;

    #[test]
    fn facts_numbers_and_first_values() {
        let tensor = Tensor::arange(24, (Kind::Float, Cpu)).reshape([2, 3, 4]);
        let expected = "\
tensor Float [2, 3, 4] on Cpu, 24 values
min 0, mean 11.5, max 23
0.0  1.0   2.0   3.0
4.0  5.0   6.0   7.0
8.0  9.0  10.0  11.0
the values at [0, ..3, ..4]";
        assert_eq!(tensor.bundle().plain, expected);
        assert!(tensor.bundle().html.unwrap().contains("<td align=\"right\">11.0</td>"));
    }

    #[test]
    fn large_tensors_show_a_corner() {
        let plain = Tensor::zeros([5, 4, 30, 2560], (Kind::BFloat16, Cpu)).bundle().plain;
        assert!(plain.starts_with("tensor BFloat16 [5, 4, 30, 2560] on Cpu, 1536000 values\nmin 0, mean 0, max 0\n"), "{plain}");
        assert!(plain.ends_with("…\nthe values at [0, 0, ..6, ..8]"), "{plain}");
        assert_eq!(plain.lines().count(), 2 + ROWS as usize + 1);
    }

    #[test]
    fn what_is_no_number_is_counted_apart() {
        let plain = Tensor::from_slice(&[1.0, f64::NAN, f64::INFINITY, 3.0]).bundle().plain;
        assert!(plain.contains("min 1, mean 2, max 3, 1 NaN, 1 infinite"), "{plain}");
        let plain = Tensor::from_slice(&[f32::NAN; 2]).bundle().plain;
        assert!(plain.contains("2 NaN, 0 infinite"), "{plain}");
    }

    #[test]
    fn every_kind_of_tensor_shows() {
        assert!(Tensor::from_slice(&[true, false]).bundle().plain.contains("1 of 2 true"));
        assert!(Tensor::from_slice(&[7i64, -3]).bundle().plain.contains("7  -3"));
        assert!(Tensor::from(1.5).bundle().plain.contains("min 1.5"));
        assert!(Tensor::from(1.5).bundle().plain.ends_with("1.500"));
        assert_eq!(Tensor::zeros([0, 3], (Kind::Half, Cpu)).bundle().plain, "tensor Half [0, 3] on Cpu, 0 values");
        assert_eq!(Tensor::new().bundle().plain, "tensor (undefined)");
        let complex = Tensor::zeros([2], (Kind::ComplexFloat, Cpu)).bundle().plain;
        assert!(complex.starts_with("tensor ComplexFloat"), "{complex}");
        let grad = Tensor::zeros([2], (Kind::Float, Cpu)).set_requires_grad(true);
        assert!(grad.bundle().plain.contains("requires grad") && grad.requires_grad());
        let sparse = Tensor::eye(3, (Kind::Float, Cpu)).to_sparse_sparse_dim(2);
        assert!(sparse.bundle().plain.starts_with("tensor Float [3, 3]"), "{}", sparse.bundle().plain);
    }
}
