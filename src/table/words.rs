//! What columns of this crate's frames are called where people read them.

/// A column's name in words; one that is not known stands with spaces for underscores.
pub(crate) fn words(column: &str) -> String {
    let bins = |tail: &str, kind: &str, name: &str| {
        let count = tail.strip_prefix(kind)?;
        (!count.is_empty() && count.bytes().all(|digit| digit.is_ascii_digit()))
            .then(|| format!("{name} ({count} {} bins)", kind.trim_end_matches('_').replace('_', "-")))
    };
    for (start, name) in
        [("ece_", "ECE"), ("mce_", "MCE"), ("rmsce_", "RMSCE"), ("classwise_ece_", "class-wise ECE"), ("top_1_ece_", "top-1 ECE")]
    {
        let found = column.strip_prefix(start).and_then(|tail| {
            bins(tail, "equal_width_", name)
                .or_else(|| bins(tail, "equal_mass_", name))
                .or_else(|| tail.strip_prefix("paper_").map(|count| format!("{name} ({count} bins of the paper's code)")))
        });
        if let Some(found) = found {
            return found;
        }
    }
    match column {
        "ece" => "ECE",
        "nll" => "negative log-likelihood (nats)",
        "brier" => "Brier score",
        "adaptive_ece_15" => "adaptive ECE (15 bins)",
        "smooth_ece" => "smooth ECE",
        "debiased_ce_15" => "debiased calibration error (15 bins)",
        "debiased_ce_15_squared" => "squared debiased calibration error (15 bins)",
        "aurc" => "AURC",
        "augrc" => "AUGRC",
        "top_1_accuracy" => "top-1 accuracy",
        "top_2_accuracy" => "top-2 accuracy",
        "drift" => "drift from the base (nats)",
        "drift_elsewhere" => "drift on another task (nats)",
        "distance_to_icl" => "distance to ICL (nats)",
        "icl_before" => "ICL elsewhere, before",
        "icl_after" => "ICL elsewhere, after",
        "answer_brier" => "Brier score of the answer",
        "answer_nll" => "negative log-likelihood of right or wrong (nats)",
        "linear_cka" => "linear CKA",
        "debiased_cka" => "debiased CKA",
        "rbf_cka" => "RBF CKA",
        "debiased_rbf_cka" => "debiased RBF CKA",
        "cca" => "mean CCA",
        "svcca" => "SVCCA",
        "pwcca" => "PWCCA",
        "rsa_pearson" => "RSA (Pearson)",
        "rsa_spearman" => "RSA (Spearman)",
        "pc1" => "first principal component",
        "pc2" => "second principal component",
        "ood" => "out of distribution",
        "at_least" => "answered where the confidence is at least",
        "kept" => "share of queries answered",
        "from_end" => "position from the end",
        _ => return column.replace('_', " "),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_called_by_words() {
        let columns = [
            "smooth_ece",
            "augrc",
            "ece_equal_width_15",
            "classwise_ece_equal_width_15",
            "ece_paper_15",
            "ece_of_mine",
            "ece_equal_width_",
            "ece_equal_width_few",
            "at_least",
            "asim_mean",
        ];
        let named = [
            "smooth ECE",
            "AUGRC",
            "ECE (15 equal-width bins)",
            "class-wise ECE (15 equal-width bins)",
            "ECE (15 bins of the paper's code)",
            "ece of mine",
            "ece equal width ",
            "ece equal width few",
            "answered where the confidence is at least",
            "asim mean",
        ];
        assert_eq!(columns.map(words), named);
    }

    /// No table says "ece" or "cka".
    #[test]
    fn every_metric_and_measure_is_called_as_people_write_it() {
        let names =
            crate::metric::METRICS.iter().map(|metric| metric.name).chain(crate::similarity::MEASURES.iter().map(|measure| measure.name));
        for name in names {
            let called = words(name);
            let short = ["ece", "mce", "rmsce", "nll", "brier", "aurc", "augrc", "ce", "cka", "rbf", "cca", "svcca", "pwcca", "rsa"];
            assert!(called.split(' ').all(|word| !short.contains(&word)) && !called.contains('_'), "{name}: {called}");
        }
        // What would else read as code, or say too little.
        for name in
            ["ece", "drift", "drift_elsewhere", "distance_to_icl", "icl_before", "icl_after", "pc1", "pc2", "ood", "kept", "from_end"]
        {
            assert!(words(name).len() > name.len() || words(name) == "ECE", "{name}: {}", words(name));
        }
    }
}
