//! Named axes: shape checks whose messages say which axis is wrong, not which index.
//!
//! tch's tensors carry sizes without names. The crate's public functions therefore name the axes they expect
//! (`example`, `layer`, `token`, `hidden`, ...) and check them here, before any arithmetic could broadcast a mistake away.
//! [`long`] writes a tensor down as a frame, with the axes as columns.

use polars::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// Checks that `tensor` has the axes `names`, each of the given size; `None` accepts any size.
///
/// # Errors
/// The number of axes or the size of one differs. The message names the tensor, the axis and the whole shape:
/// ``activations: axis `layer` has 4, expected 6 (shape [example 8, layer 4, token 3, hidden 64])``.
pub fn expect(tensor: &Tensor, what: &str, names: &[&str], sizes: &[Option<i64>]) -> Result<()> {
    let shape = shape_of(tensor, what)?;
    if names.len() != sizes.len() {
        return Err(Error::internal(format!("{what}: {} axis names but {} expected sizes", names.len(), sizes.len())));
    }
    if shape.len() != names.len() {
        return Err(wrong_rank(what, &shape, names));
    }
    let wrong: Vec<String> = (0..shape.len())
        .filter_map(|axis| {
            let expected = sizes[axis].filter(|&expected| expected != shape[axis])?;
            Some(format!("axis `{}` has {}, expected {expected}", names[axis], shape[axis]))
        })
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(Error::input(format!("{what}: {} (shape {})", wrong.join(", "), describe(&shape, names)))) }
}

/// Checks that two tensors have the same axes with the same sizes.
///
/// `names` may be empty when the axes have no fixed meaning; they are then called `axis 0`, `axis 1`, ...
///
/// # Errors
/// The shapes differ; the message names the first axis that does, and both shapes.
pub fn same(a: &Tensor, a_name: &str, b: &Tensor, b_name: &str, names: &[&str]) -> Result<()> {
    let (a, b) = (shape_of(a, a_name)?, shape_of(b, b_name)?);
    if !names.is_empty() {
        for (shape, name) in [(&a, a_name), (&b, b_name)] {
            if shape.len() != names.len() {
                return Err(wrong_rank(name, shape, names));
            }
        }
    }
    if a == b {
        return Ok(());
    }
    let both = format!("({a_name} {}, {b_name} {})", describe(&a, names), describe(&b, names));
    if a.len() != b.len() {
        return Err(Error::input(format!("{a_name} has {} axes but {b_name} has {} {both}", a.len(), b.len())));
    }
    let axis = (0..a.len()).find(|&axis| a[axis] != b[axis]).unwrap_or_default();
    let name = names.get(axis).map_or_else(|| axis.to_string(), |name| format!("`{name}`"));
    Err(Error::input(format!("axis {name} has {} in {a_name} but {} in {b_name} {both}", a[axis], b[axis])))
}

/// Checks that every element is a finite number.
///
/// # Errors
/// Some element is NaN or infinite; the message counts them and gives the position of the first.
pub fn finite(tensor: &Tensor, what: &str) -> Result<()> {
    let shape = shape_of(tensor, what)?;
    let bad = tensor.f_isfinite()?.f_logical_not()?;
    let count = bad.f_sum(Kind::Int64)?.f_int64_value(&[])?;
    if count == 0 {
        return Ok(());
    }
    // argmax of a boolean mask is the first true element.
    let first = bad.f_flatten(0, -1)?.f_to_kind(Kind::Uint8)?.f_argmax(None, false)?.f_int64_value(&[])?;
    let of = tensor.numel();
    Err(Error::numeric(format!("{what}: {count} of {of} values are NaN or infinite, the first at {:?}", position(first, &shape))))
}

/// The shape with its names: `[example 8, layer 4]`; axes beyond the names get their index.
pub fn describe(shape: &[i64], names: &[&str]) -> String {
    let axes: Vec<String> = shape
        .iter()
        .enumerate()
        .map(|(axis, size)| match names.get(axis) {
            Some(name) if names.len() == shape.len() => format!("{name} {size}"),
            _ => size.to_string(),
        })
        .collect();
    format!("[{}]", axes.join(", "))
}

/// A tensor as a long frame: one row per number, in row-major order; a u32 column per axis with the place along it, from 0, and the numbers
/// in the column `name`.
///
/// Halves become f32, integers i64; f64 and booleans stay. NaN and infinity stay what they are; a tensor without numbers gives a frame
/// without rows.
///
/// ```
/// use ia2::axes::long;
/// use ia2::tch::Tensor;
///
/// let frame = long(&Tensor::from_slice(&[0.5f32, 0.1, 0.4]).view([1, 3]), &["layer", "head"], "weight")?;
/// assert_eq!(frame.get_column_names(), ["layer", "head", "weight"]);
/// assert_eq!(frame.shape(), (3, 3));
/// # Ok::<(), ia2::Error>(())
/// ```
///
/// # Errors
/// Not as many names as axes, a name that is there twice, complex numbers, more rows than polars counts (2³² - 1).
pub fn long(values: &Tensor, axes: &[&str], name: &str) -> Result<DataFrame> {
    let shape = shape_of(values, name)?;
    if shape.len() != axes.len() {
        return Err(wrong_rank(name, &shape, axes));
    }
    if let Some(twice) = axes.iter().enumerate().find(|(place, axis)| **axis == name || axes[..*place].contains(axis)) {
        return Err(Error::input(format!("the column `{}` is there twice: give every axis a name of its own", twice.1)));
    }
    let rows = u32::try_from(values.numel()).ok().filter(|rows| *rows < u32::MAX);
    let rows = rows.ok_or_else(|| Error::input(format!("{name}: {} numbers are more rows than a frame takes", values.numel())))?;
    let mut columns = Vec::with_capacity(axes.len() + 1);
    // How many rows lie between one place along the axis and the next.
    let mut stride = u64::from(rows);
    for (axis, &size) in axes.iter().zip(&shape) {
        let size = size as u64;
        stride /= size.max(1);
        let place = |row: u32| (u64::from(row) / stride % size) as u32;
        columns.push(Column::new((*axis).into(), (0..rows).map(place).collect::<Vec<_>>()));
    }
    let kind = values.f_kind()?;
    let flat = values.f_detach()?.f_to_device(Device::Cpu)?.f_reshape([-1])?;
    columns.push(match kind {
        Kind::Double => Column::new(name.into(), Vec::<f64>::try_from(flat)?),
        Kind::Float | Kind::Half | Kind::BFloat16 => Column::new(name.into(), Vec::<f32>::try_from(flat.f_to_kind(Kind::Float)?)?),
        Kind::Bool => Column::new(name.into(), Vec::<bool>::try_from(flat)?),
        Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int | Kind::Int64 => {
            Column::new(name.into(), Vec::<i64>::try_from(flat.f_to_kind(Kind::Int64)?)?)
        }
        other => {
            return Err(Error::input(format!("{name}: numbers of kind {other:?} have no column of their own: take their parts first")));
        }
    });
    Ok(DataFrame::new(rows as usize, columns)?)
}

/// The index along each axis of the `flat`-th element in row-major order.
pub(crate) fn position(flat: i64, shape: &[i64]) -> Vec<i64> {
    let mut rest = flat;
    let mut index: Vec<i64> = shape
        .iter()
        .rev()
        .map(|&size| {
            let size = size.max(1);
            let at = rest % size;
            rest /= size;
            at
        })
        .collect();
    index.reverse();
    index
}

/// An undefined tensor (a gradient that was never made) has no shape to ask for.
fn shape_of(tensor: &Tensor, what: &str) -> Result<Vec<i64>> {
    if tensor.defined() {
        Ok(tensor.size())
    } else {
        Err(Error::input(format!("{what}: the tensor is undefined (was a gradient asked for?)")))
    }
}

fn wrong_rank(what: &str, shape: &[i64], names: &[&str]) -> Error {
    Error::input(format!("{what}: {} axes, expected {} [{}] (shape {shape:?})", shape.len(), names.len(), names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device::Cpu;

    const NAMES: [&str; 4] = ["example", "layer", "token", "hidden"];

    fn zeros(shape: &[i64]) -> Tensor {
        Tensor::zeros(shape, (Kind::Float, Cpu))
    }

    #[test]
    fn the_wrong_axis_is_named() {
        let tensor = zeros(&[8, 4, 3, 64]);
        expect(&tensor, "activations", &NAMES, &[Some(8), Some(4), None, Some(64)]).unwrap();
        let error = expect(&tensor, "activations", &NAMES, &[Some(8), Some(6), None, None]).unwrap_err();
        assert_eq!(error.to_string(), "activations: axis `layer` has 4, expected 6 (shape [example 8, layer 4, token 3, hidden 64])");
        assert!(error.is_input());
        let two = expect(&tensor, "activations", &NAMES, &[Some(1), None, None, Some(2)]).unwrap_err().to_string();
        assert!(two.contains("`example` has 8, expected 1, axis `hidden` has 64, expected 2"), "{two}");
    }

    #[test]
    fn the_wrong_rank_names_the_axes_expected() {
        let error = expect(&zeros(&[2, 3]), "activations", &NAMES, &[None; 4]).unwrap_err().to_string();
        assert_eq!(error, "activations: 2 axes, expected 4 [example, layer, token, hidden] (shape [2, 3])");
        assert!(expect(&zeros(&[2]), "x", &["a"], &[]).unwrap_err().is_internal());
    }

    #[test]
    fn two_tensors_are_compared_axis_by_axis() {
        let (a, b) = (zeros(&[2, 3]), zeros(&[2, 4]));
        same(&a, "left", &a, "right", &["example", "hidden"]).unwrap();
        let named = same(&a, "left", &b, "right", &["example", "hidden"]).unwrap_err().to_string();
        assert_eq!(named, "axis `hidden` has 3 in left but 4 in right (left [example 2, hidden 3], right [example 2, hidden 4])");
        let bare = same(&a, "left", &zeros(&[2]), "right", &[]).unwrap_err().to_string();
        assert_eq!(bare, "left has 2 axes but right has 1 (left [2, 3], right [2])");
        assert!(same(&a, "left", &b, "right", &["x"]).is_err());
    }

    #[test]
    fn the_first_value_that_is_no_number_is_found() {
        let tensor = zeros(&[2, 3, 4]);
        finite(&tensor, "logits").unwrap();
        finite(&Tensor::from_slice(&[1i64, 2]), "ids").unwrap();
        let _ = tensor.get(1).get(2).get(1).fill_(f64::NAN);
        let _ = tensor.get(1).get(2).get(3).fill_(f64::INFINITY);
        let error = finite(&tensor, "logits").unwrap_err();
        assert_eq!(error.to_string(), "logits: 2 of 24 values are NaN or infinite, the first at [1, 2, 1]");
        assert!(error.is_numeric());
    }

    #[test]
    fn a_tensor_becomes_a_long_frame() {
        let values = Tensor::arange(24, (Kind::Float, Cpu)).view([2, 3, 4]).transpose(0, 2);
        let frame = long(&values, &["head", "query", "key"], "weight").unwrap();
        assert_eq!(frame.get_column_names(), ["head", "query", "key", "weight"]);
        assert_eq!(frame.height(), 24);
        let place = |axis: &str, row: usize| i64::from(frame.column(axis).unwrap().u32().unwrap().get(row).unwrap());
        for row in 0..24 {
            let expected = values.double_value(&[place("head", row), place("query", row), place("key", row)]);
            assert_eq!(frame.column("weight").unwrap().f32().unwrap().get(row).map(f64::from), Some(expected));
            assert_eq!(place("head", row) * 6 + place("query", row) * 2 + place("key", row), row as i64);
        }
    }

    #[test]
    fn every_kind_of_number_has_a_frame_and_nan_stays_nan() {
        let of = |values: &Tensor| long(values, &["unit"], "value").unwrap().column("value").unwrap().clone();
        let values = Tensor::from_slice(&[1.0f64, f64::NAN, f64::INFINITY]);
        let wide = of(&values);
        assert_eq!((wide.dtype(), wide.null_count()), (&DataType::Float64, 0));
        assert!(wide.f64().unwrap().get(1).unwrap().is_nan() && wide.f64().unwrap().get(2).unwrap().is_infinite());
        for (kind, expected) in [
            (Kind::BFloat16, DataType::Float32),
            (Kind::Half, DataType::Float32),
            (Kind::Int, DataType::Int64),
            (Kind::Uint8, DataType::Int64),
            (Kind::Bool, DataType::Boolean),
        ] {
            assert_eq!(of(&zeros(&[3]).to_kind(kind)).dtype(), &expected);
        }
        assert_eq!(long(&Tensor::from(3.5f32), &[], "value").unwrap().shape(), (1, 1));
        for shape in [[0, 3], [3, 0], [0, 0]] {
            let empty = long(&zeros(&shape), &["a", "b"], "value").unwrap();
            assert_eq!((empty.shape(), empty.column("a").unwrap().dtype()), ((0, 3), &DataType::UInt32));
        }
    }

    #[test]
    fn a_frame_needs_a_name_for_every_axis() {
        let text = |result: Result<DataFrame>| result.unwrap_err().to_string();
        let error = text(long(&zeros(&[2, 3]), &["layer"], "norm"));
        assert_eq!(error, "norm: 2 axes, expected 1 [layer] (shape [2, 3])");
        assert!(text(long(&zeros(&[2, 3]), &["a", "a"], "b")).contains("`a` is there twice"));
        assert!(text(long(&zeros(&[2]), &["a"], "a")).contains("`a` is there twice"));
        assert!(text(long(&Tensor::new(), &["a"], "b")).contains("undefined"));
        assert!(text(long(&zeros(&[2]).to_kind(Kind::ComplexFloat), &["a"], "b")).contains("ComplexFloat"));
    }

    #[test]
    fn an_undefined_tensor_is_an_error() {
        assert!(expect(&Tensor::new(), "grad", &["hidden"], &[None]).unwrap_err().to_string().contains("undefined"));
    }
}
