//! Does a confidence of 0.8 mean right four times out of five?

use std::fmt;

use polars::prelude::*;

use super::read::{Labels, confidence, correct};
use crate::compat::Compat;
use crate::error::{Error, Result};

/// The most bins.
const MOST: usize = 10_000;

/// How confidences in [0, 1] are put into bins. An ECE means little without it: name it next to the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binning {
    /// `n` bins of equal width: bin *b* is (b/n, (b+1)/n], closed above, and 0 belongs to the first one (Guo et al. 2017).
    ///
    /// torchmetrics closes its bins below instead; the two differ only where a confidence lies exactly on an edge.
    EqualWidth(usize),
    /// `n` bins of equal count: rows sorted by confidence, cut as evenly as possible, the first `rows % n` bins holding one
    /// row more (as `numpy.array_split`). Equal confidences stay together, in the earlier of the bins they would fall into, so
    /// that the order of rows cannot change the result. Needs at least `n` rows.
    EqualMass(usize),
    /// The authors' bins of equal count ([`Compat::Paper`]): `rows / n` rows each, rounded down, the last takes the remainder, equal confidences
    /// in the order of their rows; a single bin when there are fewer rows than bins.
    Paper(usize),
}

impl Binning {
    /// The bins a paper's "ECE" is over: 15 of equal width, the textbook's; under [`Compat::Paper`] the authors' 15 of equal count.
    pub fn standard(compat: Compat) -> Self {
        match compat {
            Compat::Corrected => Self::EqualWidth(15),
            Compat::Paper => Self::Paper(15),
        }
    }

    /// The number of bins asked for.
    pub fn bins(self) -> usize {
        match self {
            Self::EqualWidth(bins) | Self::EqualMass(bins) | Self::Paper(bins) => bins,
        }
    }
}

impl fmt::Display for Binning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bins = self.bins();
        match self {
            Self::EqualWidth(_) => write!(f, "{bins} equal-width bins"),
            Self::EqualMass(_) => write!(f, "{bins} equal-mass bins"),
            Self::Paper(_) => write!(f, "{bins} equal-mass bins as the paper's code cuts them"),
        }
    }
}

/// Expected calibration error, in [0, 1]; lower is better.
///
/// ECE = Σ_b (n_b / n) |accuracy_b − confidence_b|
///
/// with n_b rows in bin b, of which the share accuracy_b is `correct` at a mean `confidence` of confidence_b
/// (Naeini et al. 2015; Guo et al. 2017).
///
/// ```
/// use ia2::metric::{Binning, ece};
/// use polars::prelude::*;
///
/// let frame = df!("correct" => [true, false, true, true], "confidence" => [0.5, 0.5, 1.0, 0.75])?;
/// // (0, 0.5]: 2 rows, 0.5 right, 0.5 sure; (0.5, 1]: 2 rows, 1 right, 0.875 sure.
/// assert_eq!(ece(&frame, Binning::EqualWidth(2))?, 0.0625);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// An input error when `correct` (boolean) or `confidence` (floating point) is missing, of another type, has nulls or values
/// outside [0, 1], when there are no rows, no bins or more than 10,000, or fewer rows than equal-mass bins; a numeric error on NaN.
pub fn ece(frame: &DataFrame, binning: Binning) -> Result<f64> {
    Ok(expected(&bin(scored(frame)?, binning)?))
}

/// Maximum calibration error, in [0, 1]; lower is better: `max_b |accuracy_b − confidence_b|` over the bins that hold rows (Naeini et al. 2015).
///
/// A bin of few rows decides it: read it together with the counts of [`calibration`].
///
/// # Errors
/// As [`ece`].
pub fn mce(frame: &DataFrame, binning: Binning) -> Result<f64> {
    let bins = bin(scored(frame)?, binning)?;
    Ok(bins.iter().filter(|bin| bin.count > 0).map(|bin| (bin.correct - bin.confidence).abs() / bin.count as f64).fold(0.0, f64::max))
}

/// Root mean square calibration error, in [0, 1]; lower is better: `√ Σ_b (n_b / n) (accuracy_b − confidence_b)²` (Hendrycks et al. 2019).
///
/// # Errors
/// As [`ece`].
pub fn rmsce(frame: &DataFrame, binning: Binning) -> Result<f64> {
    let bins = bin(scored(frame)?, binning)?;
    let squares = bins.iter().filter(|bin| bin.count > 0).map(|bin| (bin.correct - bin.confidence).powi(2) / bin.count as f64);
    Ok((squares.sum::<f64>() / rows(&bins) as f64).sqrt())
}

/// Classwise expected calibration error, in [0, 1]; lower is better: the mean over the labels of the [`ece`] of "it is this label", whose
/// confidence is `p_<label>` on every row.
///
/// `1/K Σ_label Σ_b (n_b / n) |share of gold_b − mean p_b|`. With bins of equal width it is the static calibration error, with bins of
/// equal count the *adaptive* calibration error of Nixon et al. 2019, whose ranges all weigh the same where `rows` is a multiple of the bins.
/// (Others call the equal-count ECE of the answer adaptive: that is [`ece`] with [`Binning::EqualMass`].)
///
/// # Errors
/// As [`label_set_accuracy`](super::label_set_accuracy), and those of the bins as [`ece`].
pub fn classwise_ece(frame: &DataFrame, binning: Binning) -> Result<f64> {
    let labels = Labels::of(frame)?;
    let one = |label: usize| -> Result<f64> {
        let rows = labels.rows().map(|(row, gold)| (row[label], gold == label)).collect();
        Ok(expected(&bin(rows, binning)?))
    };
    Ok((0..labels.names.len()).map(one).sum::<Result<f64>>()? / labels.names.len() as f64)
}

/// What each bin holds, one row per bin: `bin` (from 0), `lower`, `upper`, `count`, `confidence` and `accuracy` (means over the
/// bin; null when it is empty).
///
/// `lower` and `upper` are the bin's edges for equal width, its least and greatest confidence otherwise.
///
/// # Errors
/// As [`ece`].
pub fn calibration(frame: &DataFrame, binning: Binning) -> Result<DataFrame> {
    let bins = bin(scored(frame)?, binning)?;
    let mean = |bin: &Bin, sum: f64| (bin.count > 0).then(|| sum / bin.count as f64);
    Ok(df!(
        "bin" => (0..bins.len() as u32).collect::<Vec<_>>(),
        "lower" => bins.iter().map(|bin| bin.lower).collect::<Vec<_>>(),
        "upper" => bins.iter().map(|bin| bin.upper).collect::<Vec<_>>(),
        "count" => bins.iter().map(|bin| bin.count as u32).collect::<Vec<_>>(),
        "confidence" => bins.iter().map(|bin| mean(bin, bin.confidence)).collect::<Vec<_>>(),
        "accuracy" => bins.iter().map(|bin| mean(bin, bin.correct)).collect::<Vec<_>>(),
    )?)
}

/// Sums over the rows of one bin.
#[derive(Clone, Debug, Default)]
pub(super) struct Bin {
    lower: Option<f64>,
    upper: Option<f64>,
    pub count: usize,
    pub confidence: f64,
    pub correct: f64,
}

impl Bin {
    fn add(&mut self, (confidence, correct): (f64, bool)) {
        self.count += 1;
        self.confidence += confidence;
        self.correct += f64::from(u8::from(correct));
    }
}

fn rows(bins: &[Bin]) -> usize {
    bins.iter().map(|bin| bin.count).sum()
}

fn expected(bins: &[Bin]) -> f64 {
    bins.iter().map(|bin| (bin.correct - bin.confidence).abs()).sum::<f64>() / rows(bins) as f64
}

/// `confidence` and `correct` of each row.
pub(super) fn scored(frame: &DataFrame) -> Result<Vec<(f64, bool)>> {
    let correct = correct(frame)?;
    Ok(confidence(frame)?.into_iter().zip(correct).collect())
}

pub(super) fn bin(mut rows: Vec<(f64, bool)>, binning: Binning) -> Result<Vec<Bin>> {
    let bins = binning.bins();
    if bins == 0 {
        return Err(Error::input("calibration needs at least one bin, 0 asked for"));
    }
    if bins > MOST {
        return Err(Error::input(format!("calibration has {MOST} bins at most, {bins} asked for; 15 are usual")));
    }
    if let Binning::EqualWidth(_) = binning {
        return Ok(equal_width(&rows, bins));
    }
    // A stable sort: the authors' bins depend on the order of equal confidences.
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let cuts = match binning {
        Binning::Paper(_) if rows.len() < bins => vec![0, rows.len()],
        Binning::Paper(_) => (0..bins).map(|bin| bin * (rows.len() / bins)).chain([rows.len()]).collect(),
        _ if rows.len() < bins => {
            let remedy = "evaluate more examples, or ask for fewer bins";
            return Err(Error::input(format!("{binning} need at least as many rows, the frame has {} rows: {remedy}", rows.len())));
        }
        _ => even_cuts(&rows, bins),
    };
    Ok(cuts.windows(2).map(|cut| summed(&rows[cut[0]..cut[1]])).collect())
}

fn equal_width(rows: &[(f64, bool)], bins: usize) -> Vec<Bin> {
    let edges: Vec<f64> = (0..=bins).map(|edge| edge as f64 / bins as f64).collect();
    let mut all: Vec<Bin> = edges.windows(2).map(|edge| Bin { lower: Some(edge[0]), upper: Some(edge[1]), ..Bin::default() }).collect();
    for &row in rows {
        // Compared with the edges themselves: multiplying by the number of bins would round some edges into the next bin.
        let place = edges[1..].partition_point(|&upper| upper < row.0);
        all[place].add(row);
    }
    all
}

/// Where to cut sorted rows into `bins` of equal count without parting equal confidences.
fn even_cuts(rows: &[(f64, bool)], bins: usize) -> Vec<usize> {
    let (size, larger) = (rows.len() / bins, rows.len() % bins);
    let even = (0..=bins).map(|bin| bin * size + bin.min(larger));
    even.map(|cut| match cut {
        0 => 0,
        // To the end of the run of confidences that equal the last one before the cut.
        _ => cut + rows[cut..].iter().take_while(|row| row.0 == rows[cut - 1].0).count(),
    })
    .collect()
}

fn summed(rows: &[(f64, bool)]) -> Bin {
    let mut bin = Bin { lower: rows.first().map(|row| row.0), upper: rows.last().map(|row| row.0), ..Bin::default() };
    rows.iter().for_each(|&row| bin.add(row));
    bin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(confidence: &[f64], correct: &[bool]) -> DataFrame {
        df!("correct" => correct, "confidence" => confidence).unwrap()
    }

    fn counts(frame: &DataFrame, binning: Binning) -> Vec<u32> {
        calibration(frame, binning).unwrap().column("count").unwrap().u32().unwrap().no_null_iter().collect()
    }

    #[test]
    fn equal_width_by_hand() {
        let frame = frame(&[0.1, 0.3, 0.35, 0.9, 0.95], &[false, true, false, true, true]);
        // (0, .25]: |0 - .1|; (.25, .5]: |1 - .65|; (.75, 1]: |2 - 1.85|
        let expected = (0.1 + 0.35 + 0.15) / 5.0;
        assert!((ece(&frame, Binning::EqualWidth(4)).unwrap() - expected).abs() < 1e-12);
        let bins = calibration(&frame, Binning::EqualWidth(4)).unwrap();
        assert_eq!(bins.get_column_names(), ["bin", "lower", "upper", "count", "confidence", "accuracy"]);
        let f64s = |name: &str| bins.column(name).unwrap().f64().unwrap().to_vec();
        assert_eq!(f64s("lower"), [Some(0.0), Some(0.25), Some(0.5), Some(0.75)]);
        assert_eq!(f64s("accuracy"), [Some(0.0), Some(0.5), None, Some(1.0)]);
        assert_eq!(f64s("confidence")[2], None);
        assert_eq!(counts(&frame, Binning::EqualWidth(4)), [1, 2, 0, 2]);
    }

    #[test]
    fn equal_width_bins_are_closed_above() {
        let on_edges = frame(&[0.0, 0.1, 0.2, 0.3, 0.6, 0.7, 1.0], &[true; 7]);
        assert_eq!(counts(&on_edges, Binning::EqualWidth(10)), [2, 1, 1, 0, 0, 1, 1, 0, 0, 1]);
        // Every edge of every number of bins belongs to the bin below it.
        for bins in 1..60 {
            let edges: Vec<f64> = (1..=bins).map(|edge| edge as f64 / bins as f64).collect();
            assert_eq!(counts(&frame(&edges, &vec![true; bins]), Binning::EqualWidth(bins)), vec![1; bins], "{bins}");
        }
    }

    #[test]
    fn equal_mass_by_hand() {
        let frame = frame(&[0.9, 0.1, 0.5, 0.3, 0.7], &[true, false, false, true, true]);
        // Sorted: .1 F, .3 T, .5 F | .7 T, .9 T
        let expected = ((1.0 - 0.9_f64).abs() + (2.0 - 1.6_f64).abs()) / 5.0;
        assert!((ece(&frame, Binning::EqualMass(2)).unwrap() - expected).abs() < 1e-12);
        assert_eq!(counts(&frame, Binning::EqualMass(2)), [3, 2]);
        assert_eq!(counts(&frame, Binning::EqualMass(3)), [2, 2, 1]);
        assert_eq!(counts(&frame, Binning::Paper(2)), [2, 3]);
        assert_eq!(counts(&frame, Binning::Paper(6)), [5]);
        let bins = calibration(&frame, Binning::EqualMass(2)).unwrap();
        assert_eq!(bins.column("upper").unwrap().f64().unwrap().to_vec(), [Some(0.5), Some(0.9)]);
    }

    #[test]
    fn the_order_of_rows_cannot_change_an_equal_mass_ece() {
        let (confidence, correct) = ([0.6, 0.6, 0.6, 0.6, 0.8, 0.9], [true, false, true, false, true, true]);
        let there = frame(&confidence, &correct);
        let back = frame(&confidence.map(|c| c), &[false, true, false, true, true, true]);
        assert_eq!(counts(&there, Binning::EqualMass(3)), [4, 0, 2]);
        assert_eq!(ece(&there, Binning::EqualMass(3)).unwrap(), ece(&back, Binning::EqualMass(3)).unwrap());
        assert_eq!(counts(&frame(&[0.5; 4], &[true; 4]), Binning::EqualMass(4)), [4, 0, 0, 0]);
    }

    #[test]
    fn extremes() {
        for binning in [Binning::EqualWidth(15), Binning::EqualMass(15), Binning::Paper(15)] {
            assert_eq!(ece(&frame(&[1.0; 15], &[true; 15]), binning).unwrap(), 0.0, "{binning}");
            assert_eq!(ece(&frame(&[1.0; 15], &[false; 15]), binning).unwrap(), 1.0, "{binning}");
            assert_eq!(ece(&frame(&[0.0; 15], &[true; 15]), binning).unwrap(), 1.0, "{binning}");
        }
    }

    #[test]
    fn bins_that_cannot_be_are_errors() {
        let two = frame(&[0.5, 0.6], &[true, false]);
        assert!(ece(&two, Binning::EqualWidth(0)).unwrap_err().to_string().contains("at least one bin"));
        let error = ece(&two, Binning::EqualMass(3)).unwrap_err().to_string();
        assert!(error.contains("3 equal-mass bins") && error.contains("2 rows"), "{error}");
    }

    #[test]
    fn golden_values_of_an_independent_implementation() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ece.json");
        let Ok(text) = std::fs::read(file) else { return crate::skipped(&format!("`{file}` is not here")) };
        let cases: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
        assert!(cases.len() >= 5);
        for case in cases {
            let confidence: Vec<f64> = serde_json::from_value(case["confidence"].clone()).unwrap();
            let correct: Vec<u8> = serde_json::from_value(case["correct"].clone()).unwrap();
            let frame = frame(&confidence, &correct.iter().map(|&correct| correct == 1).collect::<Vec<_>>());
            let bins = case["bins"].as_u64().unwrap() as usize;
            let near = |binning, name: &str| {
                let (ours, theirs) = (ece(&frame, binning).unwrap(), case[name].as_f64().unwrap());
                assert!((ours - theirs).abs() < 1e-6, "{binning} of {} rows: {ours} here, {theirs} there", confidence.len());
            };
            near(Binning::EqualWidth(bins), "equal_width");
            near(Binning::Paper(bins), "equal_mass");
            if confidence.len().is_multiple_of(bins) {
                // Without a remainder and without ties both ways of cutting agree.
                near(Binning::EqualMass(bins), "equal_mass");
            }
        }
    }
}
