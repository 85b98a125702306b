//! How alike two representations are: pure functions of two tensors.
//!
//! A [`Representation`] holds the vectors `[example, hidden]` of one layer; the measures compare two of the same examples in the same order.
//! Each has an entry in [`MEASURES`] that declares its range and what leaves it unchanged; the registry test checks those declarations on
//! random data. All are similarities: more means more alike, and a representation is most alike to itself. A new measure is one file and one
//! entry. What else is here takes something else than two representations: [`principal_components`] one, [`probe_transfer`] targets to
//! read, [`subspace_overlap`] the factors of two adapters, [`permutation`] and [`interval`] a measure.
//!
//! ```
//! use ia2::similarity::{Measure, Representation};
//! use ia2::tch::{Device, Kind, Tensor};
//!
//! let values = Tensor::randn([32, 64], (Kind::Float, Device::Cpu));
//! let (a, b) = (Representation::new(&values)?, Representation::new(&(&values * 3.0 + 1.0))?);
//! assert!(Measure::named("debiased_cka")?.compute(&a, &b)? > 0.999);
//! # Ok::<(), ia2::Error>(())
//! ```

mod asim;
mod cca;
mod cka;
mod components;
mod distance;
mod probe;
mod procrustes;
#[cfg(test)]
#[path = "../../tests/recipes/measure.rs"]
mod recipe;
mod representation;
mod resample;
mod subspace;
#[cfg(test)]
mod tests;

pub use crate::sample::Interval;
pub use asim::asim;
pub use cca::{Pca, cca, pwcca, svcca};
pub use cka::{debiased_cka, debiased_rbf_cka, linear_cka, rbf_cka};
pub use components::{PrincipalComponents, principal_components};
pub use distance::{debiased_distance_correlation, distance_correlation, mutual_neighbours, rsa_pearson, rsa_spearman};
pub use probe::{Probe, ProbeTargets, ProbeTransfer, probe_transfer};
pub use procrustes::procrustes;
pub use representation::Representation;
pub use resample::{Null, interval, permutation};
pub use subspace::{Factors, Side, principal_angles, subspace_overlap, update_cosine};

use crate::axes;
use crate::display::{Bundle, Show, listed, number};
use crate::error::{Error, Result};

crate::display::show_as_text!(Invariance, Pca, PrincipalComponents, Probe, Representation, Side);

/// A change of the inputs that leaves a measure's value as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invariance {
    /// Multiplying either input by its own positive number.
    Scaling,
    /// Adding a vector of its own to every example of either input.
    Translation,
    /// Multiplying the last axis of both inputs by the same orthogonal matrix.
    SharedRotation,
    /// Multiplying the last axis of either input by its own orthogonal matrix.
    Rotation,
    /// Multiplying the last axis of either input by its own invertible matrix.
    Linear,
    /// Exchanging the two inputs.
    Exchange,
    /// Putting the examples of both inputs in the same other order.
    Order,
}

/// One measure of similarity, as declared.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Measure {
    /// The name under which frames carry it.
    pub name: &'static str,
    /// What it is, in a line, with its source.
    pub about: &'static str,
    /// The least and the greatest value; more means more alike, and a representation has the greatest with itself.
    pub range: (f64, f64),
    /// True if it reads 0 on average for independent data, however few examples and wide vectors there are.
    pub debiased: bool,
    /// What leaves it unchanged.
    pub invariances: &'static [Invariance],
    /// Where it is undefined, and therefore an error, besides NaN and infinity.
    pub undefined: &'static str,
    compute: fn(&Representation, &Representation) -> Result<f64>,
}

impl Measure {
    /// The measure of that name.
    ///
    /// # Errors
    /// An input error that lists the known names.
    pub fn named(name: &str) -> Result<&'static Self> {
        MEASURES.iter().find(|measure| measure.name == name).ok_or_else(|| {
            let known = listed(MEASURES.iter().map(|measure| measure.name));
            Error::input(format!("there is no measure `{name}`; there are {known}"))
        })
    }

    /// Its value.
    ///
    /// # Errors
    /// Different numbers of examples, or data on which it is undefined.
    pub fn compute(&self, a: &Representation, b: &Representation) -> Result<f64> {
        (self.compute)(a, b)
    }
}

impl Show for Measure {
    fn bundle(&self) -> Bundle {
        let (least, most) = self.range;
        Bundle::text(format!("{}: {} ({} to {}; undefined for {})", self.name, self.about, number(least), number(most), self.undefined))
    }
}

const ALL: [Invariance; 7] = [
    Invariance::Scaling,
    Invariance::Translation,
    Invariance::SharedRotation,
    Invariance::Rotation,
    Invariance::Linear,
    Invariance::Exchange,
    Invariance::Order,
];
const GEOMETRY: &[Invariance] = &[
    Invariance::Scaling,
    Invariance::Translation,
    Invariance::SharedRotation,
    Invariance::Rotation,
    Invariance::Exchange,
    Invariance::Order,
];
const CONSTANT: &str = "fewer than 3 examples, or all the same";
const CONSTANT_DEBIASED: &str = "fewer than 4 examples, or all the same or equally far from each other";

/// Neighbours of the table's entry.
const NEIGHBOURS: usize = 10;

/// One of the measures, from which others differ in little.
const LINEAR_CKA: Measure = Measure {
    name: "linear_cka",
    about: "linear centred kernel alignment (Kornblith et al. 2019)",
    range: (0.0, 1.0),
    debiased: false,
    invariances: GEOMETRY,
    undefined: CONSTANT,
    compute: linear_cka,
};

/// All measures.
pub static MEASURES: &[Measure] = &[
    Measure {
        name: "asim",
        about: "activation similarity: the mean cosine of the two vectors of an example (the paper's)",
        range: (-1.0, 1.0),
        // Independent vectors with a common mean do not read 0.
        debiased: false,
        invariances: &[Invariance::Scaling, Invariance::SharedRotation, Invariance::Exchange, Invariance::Order],
        undefined: "different widths, or a vector of norm zero",
        compute: |a, b| {
            axes::same(a.values(), "the first representation", b.values(), "the second representation", &["example", "hidden"])?;
            Ok(asim(a.values(), b.values())?.mean(tch::Kind::Double).double_value(&[]))
        },
    },
    LINEAR_CKA,
    Measure {
        name: "debiased_cka",
        about: "linear centred kernel alignment from unbiased HSIC (Song et al. 2012; Nguyen et al. 2021)",
        range: (-1.0, 1.0),
        debiased: true,
        invariances: GEOMETRY,
        undefined: CONSTANT_DEBIASED,
        compute: debiased_cka,
    },
    Measure {
        name: "rbf_cka",
        about: "centred kernel alignment, Gaussian kernel of width 0.8 x median distance (Kornblith et al. 2019)",
        undefined: "fewer than 3 examples, or half of them the same",
        compute: rbf_cka,
        ..LINEAR_CKA
    },
    Measure {
        name: "debiased_rbf_cka",
        about: "centred kernel alignment from unbiased HSIC, Gaussian kernel of width 0.8 x median distance",
        range: (-1.0, 1.0),
        debiased: true,
        invariances: GEOMETRY,
        undefined: "fewer than 4 examples, half of them the same, or all equally far from each other",
        compute: debiased_rbf_cka,
    },
    Measure {
        name: "cca",
        about: "mean canonical correlation of all directions (Hotelling 1936)",
        invariances: &ALL,
        undefined: "ranks that together reach the number of examples less one, or all examples the same",
        compute: cca,
        ..LINEAR_CKA
    },
    Measure {
        name: "svcca",
        about: "mean canonical correlation of the principal directions with 99 % of the variance, at most one for 10 examples (Raghu et al. 2017)",
        undefined: "fewer than 10 examples, or all the same",
        compute: |a, b| svcca(a, b, Pca::default()),
        ..LINEAR_CKA
    },
    Measure {
        name: "pwcca",
        about: "canonical correlation weighted by what it carries of the first, directions as in svcca (Morcos et al. 2018)",
        invariances: &[Invariance::Scaling, Invariance::Translation, Invariance::SharedRotation, Invariance::Rotation, Invariance::Order],
        undefined: "fewer than 10 examples, or all the same",
        compute: |a, b| pwcca(a, b, Pca::default()),
        ..LINEAR_CKA
    },
    Measure {
        name: "procrustes",
        about: "cosine after the best rotation of one onto the other (Schönemann 1966; Williams et al. 2021)",
        compute: procrustes,
        ..LINEAR_CKA
    },
    Measure {
        name: "rsa_pearson",
        about: "Pearson correlation of the Euclidean distances between examples (Kriegeskorte et al. 2008)",
        range: (-1.0, 1.0),
        debiased: true,
        invariances: GEOMETRY,
        undefined: "fewer than 3 examples, or all equally far from each other",
        compute: rsa_pearson,
    },
    Measure {
        name: "rsa_spearman",
        about: "Spearman rank correlation of the Euclidean distances between examples (Kriegeskorte et al. 2008)",
        range: (-1.0, 1.0),
        debiased: true,
        invariances: GEOMETRY,
        undefined: "fewer than 3 examples, or all equally far from each other",
        compute: rsa_spearman,
    },
    Measure {
        name: "mutual_neighbours_10",
        about: "share of the 10 nearest examples that are the same in both (Huh et al. 2024)",
        undefined: "fewer than 12 examples, or all the same",
        compute: |a, b| mutual_neighbours(a, b, NEIGHBOURS),
        ..LINEAR_CKA
    },
    Measure {
        name: "distance_correlation",
        about: "distance correlation (Székely et al. 2007)",
        compute: distance_correlation,
        ..LINEAR_CKA
    },
    Measure {
        name: "debiased_distance_correlation",
        about: "bias-corrected squared distance correlation (Székely and Rizzo 2013)",
        range: (-1.0, 1.0),
        debiased: true,
        invariances: GEOMETRY,
        undefined: CONSTANT_DEBIASED,
        compute: debiased_distance_correlation,
    },
];
