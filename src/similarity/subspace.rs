//! Subspaces of low-rank updates: how far two adapters write to and read from the same directions.

use tch::{Kind, Tensor};

use crate::axes;
use crate::error::{Error, Result};
use crate::libtorch::guarded;

/// The two factors of a LoRA update `s B A` at one site: `a [rank, in]` reads the input, `b [out, rank]` writes the output.
#[derive(Debug)]
pub struct Factors<'a> {
    /// `[rank, in]`.
    pub a: &'a Tensor,
    /// `[out, rank]`.
    pub b: &'a Tensor,
}

/// Which directions of an update are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What it reads: right singular vectors of A, in the space of inputs.
    A,
    /// What it writes: left singular vectors of B, in the space of outputs (the paper's).
    B,
    /// What it writes, by how much: left singular vectors of the full update B A. All of them together span what those of B do; a number
    /// below the rank takes those the update uses most.
    Update,
}

/// Share of one subspace that lies in the other: `|U₁ᵀ U₂|² / k` with orthonormal `U [width, k]`, in [0, 1]; by chance `k / width`.
///
/// `U` are the `count` leading singular vectors of the given side. The paper's is [`Side::B`] with `count` = rank, averaged over sites.
/// Unchanged by any scaling of either update, by a rotation of the space both live in, and, for A and B with all directions, by any
/// invertible change of the rank axis.
///
/// # Errors
/// Factors that do not fit, a count of 0 or above a rank, NaN or infinity; fewer independent directions than `count`, as in B = 0 at the start
/// of training.
pub fn subspace_overlap(first: &Factors<'_>, second: &Factors<'_>, side: Side, count: usize) -> Result<f64> {
    guarded("subspace overlap", || {
        tch::no_grad(|| {
            let (u, v) = both(first, second, side, count)?;
            let overlap = u.tr().matmul(&v).square().sum(Kind::Double).double_value(&[]);
            Ok((overlap / count as f64).clamp(0.0, 1.0))
        })
    })
}

/// The principal angles of two subspaces, in radians, `[0, π/2]`, least first; `count` of them.
///
/// `cos θ_i` are the singular values of `U₁ᵀ U₂`, `sin θ_i` those of `U₂ - U₁ U₁ᵀ U₂`; the angle of both together is exact for small and for
/// large ones (Björck and Golub 1973). The mean of `cos² θ_i` is the [`subspace_overlap`].
///
/// # Errors
/// As [`subspace_overlap`].
pub fn principal_angles(first: &Factors<'_>, second: &Factors<'_>, side: Side, count: usize) -> Result<Vec<f64>> {
    guarded("principal angles", || {
        tch::no_grad(|| {
            let (u, v) = both(first, second, side, count)?;
            let product = u.tr().matmul(&v);
            let singular = |matrix: &Tensor| matrix.svd(true, false).1;
            let (cosine, sine) = (singular(&product), singular(&(&v - u.matmul(&product))).flip([0]));
            Ok(Vec::try_from(sine.atan2(&cosine))?)
        })
    })
}

/// Cosine of two full updates, `<B₁A₁, B₂A₂> / (|B₁A₁| |B₂A₂|)` with Frobenius products, in [-1, 1]: unlike the overlap it sees which input
/// is written where, and with what sign. The matrices `[out, in]` are not formed.
///
/// # Errors
/// Factors that do not fit, NaN or infinity, an update that is zero.
pub fn update_cosine(first: &Factors<'_>, second: &Factors<'_>) -> Result<f64> {
    guarded("cosine of updates", || {
        tch::no_grad(|| {
            let (first, second) = (first.checked("the first update")?, second.checked("the second update")?);
            fit(&first, &second)?;
            // tr((B₁A₁)ᵀ B₂A₂) = Σ (B₁ᵀB₂) ∘ (A₁A₂ᵀ)
            let inner = |(a, b): &(Tensor, Tensor), (c, d): &(Tensor, Tensor)| {
                (b.tr().matmul(d) * a.matmul(&c.tr())).sum(Kind::Double).double_value(&[])
            };
            let norms = inner(&first, &first).max(0.0).sqrt() * inner(&second, &second).max(0.0).sqrt();
            if norms == 0.0 {
                return Err(Error::numeric("an update is zero and thus has no direction: train the adapter first"));
            }
            Ok((inner(&first, &second) / norms).clamp(-1.0, 1.0))
        })
    })
}

impl Factors<'_> {
    /// `a` and `b` in f64.
    fn checked(&self, name: &str) -> Result<(Tensor, Tensor)> {
        axes::expect(self.a, &format!("A of {name}"), &["rank", "in"], &[None, None])?;
        axes::expect(self.b, &format!("B of {name}"), &["out", "rank"], &[None, self.a.size().first().copied()])?;
        axes::finite(self.a, &format!("A of {name}"))?;
        axes::finite(self.b, &format!("B of {name}"))?;
        Ok((self.a.detach().to_kind(Kind::Double), self.b.detach().to_kind(Kind::Double)))
    }

    /// Orthonormal directions `[width, count]`.
    fn directions(&self, name: &str, side: Side, count: usize) -> Result<Tensor> {
        let (a, b) = self.checked(name)?;
        let (vectors, singular) = match side {
            Side::A => left(&a.tr()),
            Side::B => left(&b),
            Side::Update => {
                // B A = Q (R A): the core has the rank's width only.
                let (q, r) = Tensor::linalg_qr(&b, "reduced");
                let (core, singular) = left(&r.matmul(&a));
                (q.matmul(&core), singular)
            }
        };
        let singular = Vec::<f64>::try_from(singular)?;
        let largest = singular.first().copied().unwrap_or(0.0);
        let width = a.size().iter().chain(&b.size()).copied().max().unwrap_or(1) as f64;
        let there = singular.iter().filter(|value| **value > largest * width * f64::EPSILON).count();
        if count == 0 || count > singular.len() {
            let most = singular.len();
            return Err(Error::input(format!("{count} directions of {name} asked for: ask for 1 to {most}")));
        }
        if there < count {
            return Err(Error::numeric(format!(
                "{name} has {there} independent directions on side {side:?}, {count} asked for: \
                 ask for fewer, or train it first (B is zero at the start)"
            )));
        }
        Ok(vectors.narrow(1, 0, count as i64))
    }
}

fn both(first: &Factors<'_>, second: &Factors<'_>, side: Side, count: usize) -> Result<(Tensor, Tensor)> {
    let (u, v) = (first.directions("the first update", side, count)?, second.directions("the second update", side, count)?);
    axes::same(&u, "the first subspace", &v, "the second subspace", &["width", "direction"])?;
    Ok((u, v))
}

fn fit((a, b): &(Tensor, Tensor), (c, d): &(Tensor, Tensor)) -> Result<()> {
    let ends = |a: &Tensor, b: &Tensor| (b.size().first().copied(), a.size().get(1).copied());
    match ends(a, b) == ends(c, d) {
        true => Ok(()),
        false => Err(Error::input(format!(
            "updates [out, in] of {:?} and {:?} are of different sites: compare the same site of both",
            [b.size()[0], a.size()[1]],
            [d.size()[0], c.size()[1]]
        ))),
    }
}

/// Left singular vectors and singular values.
fn left(matrix: &Tensor) -> (Tensor, Tensor) {
    let (vectors, singular, _) = matrix.svd(true, true);
    (vectors, singular)
}
