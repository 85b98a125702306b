//! One representation with what the measures need of it, each part computed once.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use tch::{Kind, Tensor};

use crate::axes;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::libtorch::guarded;

/// The most examples: a measure holds a few matrices `[example, example]` of f64 (800 MB each at this number).
const MOST: i64 = 10_000;

/// The vectors of some examples, `[example, hidden]`, made ready to be compared with others.
///
/// Most measures depend on the vectors only through inner products between examples, so they are computed from the Gram matrix
/// `[example, example]` and never form `[hidden, hidden]`. What a measure needs of one side alone (Gram matrix, distances, ranks, principal
/// directions) is computed at the first need and kept: make one `Representation` per layer when comparing all layers with all. Everything is computed in f64, without
/// gradients, on the tensor's device.
#[derive(Debug)]
pub struct Representation {
    values: Tensor,
    gram: OnceCell<Tensor>,
    distances: OnceCell<Tensor>,
    basis: OnceCell<Basis>,
    features: RefCell<HashMap<Feature, Tensor>>,
}

/// The measure that reads a matrix, and its number of neighbours or 0.
type Feature = (&'static str, usize);

/// Left singular vectors `[example, direction]` of the centred values, greatest first, and their singular values; as many as its rank.
#[derive(Debug)]
pub(super) struct Basis {
    pub vectors: Tensor,
    pub singular: Tensor,
}

impl Representation {
    /// From `values [example, hidden]` of any kind.
    ///
    /// # Errors
    /// There are not two axes, fewer than two or more than 10,000 examples, no hidden width, or a value is NaN or infinite.
    pub fn new(values: &Tensor) -> Result<Self> {
        guarded("preparing a representation", || {
            axes::expect(values, "a representation", &["example", "hidden"], &[None, None])?;
            let (examples, hidden) = values.size2()?;
            if !(2..=MOST).contains(&examples) || hidden == 0 {
                return Err(Error::input(format!(
                    "a representation [example {examples}, hidden {hidden}] cannot be compared: give 2 to {MOST} examples of at least one number each"
                )));
            }
            axes::finite(values, "a representation")?;
            Ok(Self::of(values.detach()))
        })
    }

    fn of(values: Tensor) -> Self {
        Self { values, gram: OnceCell::new(), distances: OnceCell::new(), basis: OnceCell::new(), features: RefCell::default() }
    }

    /// The vectors, `[example, hidden]`, as given.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// Number of examples.
    pub fn examples(&self) -> usize {
        self.values.size().first().map_or(0, |&examples| examples as usize)
    }

    /// Width of the vectors.
    pub fn hidden(&self) -> usize {
        self.values.size().get(1).map_or(0, |&hidden| hidden as usize)
    }

    /// The values with the mean example taken away, f64.
    pub(super) fn centred(&self) -> Tensor {
        // The difference to a mean in f64 is f64, without a copy in between.
        &self.values - self.values.mean_dim([0i64].as_slice(), true, Kind::Double)
    }

    /// Inner products of the centred examples, `[example, example]`.
    ///
    /// A numeric error when all examples are the same.
    pub(super) fn gram(&self) -> Result<&Tensor> {
        kept(&self.gram, || {
            let centred = self.centred();
            let gram = centred.matmul(&centred.tr());
            // Equal numbers are centred to about 1e-16 of themselves; f32's own rounding, 1e-7, is a difference.
            let spread = (gram.diagonal(0, 0, 1).max().double_value(&[]) / self.hidden() as f64).sqrt();
            let (least, greatest) = self.values.aminmax(None, false);
            match spread <= 1e-12 * least.abs().maximum(&greatest.abs()).double_value(&[]) {
                true => Err(constant()),
                false => Ok(gram),
            }
        })
    }

    /// Euclidean distances between the examples, `[example, example]`.
    pub(super) fn distances(&self) -> Result<&Tensor> {
        let gram = self.gram()?;
        kept(&self.distances, || {
            let norms = gram.diagonal(0, 0, 1);
            let squares = norms.unsqueeze(1) + norms.unsqueeze(0) - gram * 2.0;
            Ok(squares.clamp_min(0.0).sqrt().fill_diagonal_(0.0, false))
        })
    }

    /// Principal directions in the space of examples.
    pub(super) fn basis(&self) -> Result<&Basis> {
        let gram = self.gram()?;
        kept(&self.basis, || {
            let (examples, hidden) = (self.examples() as f64, self.hidden() as f64);
            // The eigenvalues of the Gram matrix are squares, so that small singular values would be lost where the values themselves are
            // small enough to be taken apart.
            let (vectors, singular, least) = if hidden < examples {
                let (vectors, singular, _) = self.centred().svd(true, true);
                (vectors, singular, examples * f64::EPSILON)
            } else {
                let (squares, vectors) = gram.linalg_eigh("L");
                (vectors.flip([1]), squares.flip([0]).clamp_min(0.0).sqrt(), (examples * f64::EPSILON).sqrt())
            };
            let largest = singular.max().double_value(&[]);
            let rank = singular.gt(least * largest).sum(Kind::Int64).int64_value(&[]);
            Ok(Basis { vectors: vectors.narrow(1, 0, rank), singular: singular.narrow(0, 0, rank) })
        })
    }

    /// The same examples in another order; what is computed already is only put in order.
    pub(super) fn permuted(&self, order: &Tensor) -> Self {
        let rows = |tensor: &Tensor| tensor.index_select(0, order);
        let both = |tensor: &Tensor| rows(tensor).index_select(1, order);
        let permuted = Self::of(rows(&self.values));
        copied(&self.gram, &permuted.gram, both);
        copied(&self.distances, &permuted.distances, both);
        copied(&self.basis, &permuted.basis, |basis| Basis { vectors: rows(&basis.vectors), singular: basis.singular.shallow_clone() });
        permuted.features.replace(self.features.borrow().iter().map(|(name, matrix)| (*name, both(matrix))).collect());
        permuted
    }

    /// Some of the examples.
    pub(super) fn some(&self, chosen: &Tensor) -> Self {
        let both = |tensor: &Tensor| tensor.index_select(0, chosen).index_select(1, chosen);
        let some = Self::of(self.values.index_select(0, chosen));
        // Centring a part of a centred Gram matrix again gives the part's own.
        copied(&self.gram, &some.gram, |gram| double_centred(&both(gram)));
        copied(&self.distances, &some.distances, both);
        some
    }
}

/// `m_ij` less the means of its row and its column, plus the mean of all.
pub(super) fn double_centred(matrix: &Tensor) -> Tensor {
    let mean = |axis: i64| matrix.mean_dim([axis].as_slice(), true, Kind::Double);
    matrix - mean(0) - mean(1) + matrix.mean(Kind::Double)
}

/// Checks that two representations can be compared, and runs `f` guarded.
pub(super) fn paired<T>(name: &str, a: &Representation, b: &Representation, least: usize, f: impl FnOnce() -> Result<T>) -> Result<T> {
    if a.examples() != b.examples() {
        return Err(Error::input(format!(
            "{name}: {} examples against {}: give both for the same examples in the same order",
            a.examples(),
            b.examples()
        )));
    }
    if a.examples() < least {
        return Err(Error::input(format!("{name} is not defined on {} examples: give at least {least}", a.examples())));
    }
    guarded(name, || {
        interrupt::check()?;
        tch::no_grad(f)
    })
}

/// The inner product of one matrix `[example, example]` of each, of norm 1; `feature` makes it, and it is kept under `name`.
pub(super) fn product(
    name: Feature,
    a: &Representation,
    b: &Representation,
    least: usize,
    feature: impl Fn(&Representation) -> Result<Tensor>,
) -> Result<f64> {
    paired(name.0, a, b, least, || {
        let of = |representation: &Representation, which: &str| -> Result<Tensor> {
            if let Some(kept) = representation.features.borrow().get(&name) {
                return Ok(kept.shallow_clone());
            }
            let matrix = feature(representation).map_err(|error| error.context(format_args!("the {which} representation")))?;
            representation.features.borrow_mut().insert(name, matrix.shallow_clone());
            Ok(matrix)
        };
        let (a, b) = (of(a, "first")?, of(b, "second")?);
        Ok(a.reshape([-1]).dot(&b.reshape([-1])).double_value(&[]).clamp(-1.0, 1.0))
    })
}

/// A matrix divided by its Frobenius norm: a numeric error where that is negligible against the matrix `before` it was centred.
pub(super) fn unit(matrix: &Tensor, before: &Tensor) -> Result<Tensor> {
    let norm = |matrix: &Tensor| matrix.square().sum(Kind::Double).double_value(&[]).sqrt();
    let own = norm(matrix);
    match own > 1e-12 * norm(before) {
        true => Ok(matrix / own),
        false => {
            Err(Error::numeric("its examples are all equally far from each other, so that nothing can be compared: give other examples"))
        }
    }
}

fn constant() -> Error {
    Error::numeric(
        "a representation is the same for every example, so that there is nothing to compare: give other examples or another layer",
    )
}

fn kept<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if cell.get().is_none() {
        let made = make()?;
        return Ok(cell.get_or_init(|| made));
    }
    cell.get().ok_or_else(|| Error::internal("a computed part is gone"))
}

fn copied<T>(from: &OnceCell<T>, to: &OnceCell<T>, change: impl FnOnce(&T) -> T) {
    if let Some(value) = from.get() {
        to.get_or_init(|| change(value));
    }
}
