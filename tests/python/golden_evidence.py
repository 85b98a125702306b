"""Golden values of similarity, metrics and statistics from scipy, scikit-learn, torchmetrics and dcor, or from the formula in numpy.

Part of make_golden.py; `python tests/python/golden_evidence.py` writes these files alone. Inputs are rounded so that JSON holds them exactly,
results to 11 digits, because the last ones of linear algebra are noise.
"""

import json
import math
import pathlib
import warnings

import dcor
import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.spatial
import scipy.special
import scipy.stats
import sklearn.calibration
import sklearn.linear_model
import sklearn.metrics
import sklearn.neighbors
import sklearn.preprocessing
import torch
import torchmetrics.functional.classification as tm

# ---------------------------------------------------------------- similarity

def linear_kernel(x):
    return x @ x.T


def rbf_kernel(x):
    sigma = 0.8 * np.median(scipy.spatial.distance.pdist(x))
    return sklearn.metrics.pairwise.rbf_kernel(x, gamma=1 / (2 * sigma ** 2))


def biased_cka(k, l):
    centre = lambda m: sklearn.preprocessing.KernelCenterer().fit_transform(m)
    k, l = centre(k), centre(l)
    return np.sum(k * l) / math.sqrt(np.sum(k * k) * np.sum(l * l))


def hsic_unbiased(k, l):
    """Song et al. 2012, equation 5, as printed."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))
    one = np.ones(n)
    value = np.trace(k @ l) + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ l @ one)
    return value / (n * (n - 3))


def debiased_cka(k, l):
    return hsic_unbiased(k, l) / math.sqrt(hsic_unbiased(k, k) * hsic_unbiased(l, l))


def canonical(x, y):
    """Canonical correlations as the cosines of scipy's angles between the column spaces."""
    return np.cos(scipy.linalg.subspace_angles(x, y))


def centred(x):
    return x - x.mean(0)


def scores(x):
    """Principal components holding 99 % of the variance, at most one for 10 examples."""
    u, s, _ = np.linalg.svd(centred(x), full_matrices=False)
    share = np.cumsum(s ** 2) / np.sum(s ** 2)
    count = min(int(np.searchsorted(share, 0.99)) + 1, len(x) // 10)
    return u[:, :count] * s[:count]


def pwcca(x, y):
    """Morcos et al. 2018 by the covariance route: whitening, SVD, canonical variates, projections on the components."""
    x, y = scores(x), scores(y)
    if x.shape[1] > y.shape[1]:
        x, y = y, x
    whiten = lambda m: scipy.linalg.inv(scipy.linalg.sqrtm(m.T @ m).real)
    wx, wy = whiten(x), whiten(y)
    u, rho, _ = np.linalg.svd(wx @ x.T @ y @ wy, full_matrices=False)
    variates = x @ wx @ u
    weight = np.abs(variates.T @ x).sum(1)
    return np.sum(weight * rho) / np.sum(weight)


def procrustes(x, y):
    x, y = centred(x), centred(y)
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    width = max(x.shape[1], y.shape[1])
    pad = lambda m: np.pad(m, ((0, 0), (0, width - m.shape[1])))
    _, scale = scipy.linalg.orthogonal_procrustes(pad(x), pad(y))
    return scale


def neighbours(x, y, k):
    near = lambda m: sklearn.neighbors.NearestNeighbors(n_neighbors=k).fit(m).kneighbors(return_distance=False)
    return np.mean([len(set(a) & set(b)) / k for a, b in zip(near(x), near(y))])


def measures(x, y):
    pdist = scipy.spatial.distance.pdist
    values = dict(
        linear_cka=biased_cka(linear_kernel(x), linear_kernel(y)),
        debiased_cka=debiased_cka(linear_kernel(x), linear_kernel(y)),
        rbf_cka=biased_cka(rbf_kernel(x), rbf_kernel(y)),
        debiased_rbf_cka=debiased_cka(rbf_kernel(x), rbf_kernel(y)),
        svcca=canonical(scores(x), scores(y)).mean(),
        pwcca=pwcca(x, y),
        procrustes=procrustes(x, y),
        rsa_pearson=scipy.stats.pearsonr(pdist(x), pdist(y)).statistic,
        rsa_spearman=scipy.stats.spearmanr(pdist(x), pdist(y)).statistic,
        mutual_neighbours_10=neighbours(x, y, 10),
        distance_correlation=dcor.distance_correlation(x, y),
        debiased_distance_correlation=dcor.u_distance_correlation_sqr(x, y),
    )
    if x.shape[1] == y.shape[1]:
        values["asim"] = np.mean(sklearn.metrics.pairwise.paired_cosine_distances(x, y) * -1 + 1)
    if x.shape[1] + y.shape[1] < len(x) - 1:
        values["cca"] = canonical(centred(x), centred(y)).mean()
    return {name: float(value) for name, value in values.items()}


def probe(x, y, targets, held, ridge, classes):
    """scikit-learn's Ridge on one training part of x; reads the rest from x and from y."""
    train = np.setdiff1d(np.arange(len(x)), held)
    alpha = ridge * np.mean(np.sum(centred(x[train]) ** 2, axis=1))
    wanted = np.eye(max(targets) + 1)[targets] if classes else np.array(targets)[:, None]
    fitted = sklearn.linear_model.Ridge(alpha=alpha).fit(x[train], wanted[train])
    shaped = lambda m: np.reshape(fitted.predict(m[held]), (len(held), -1))
    return shaped(x), shaped(y)


def rounded(array):
    return np.round(array, 4)


def similarity():
    g = np.random.default_rng(1)
    cases = []
    for name, n, left, right, noise in [("tall", 40, 6, 9, 0.5), ("tall, equal widths", 50, 8, 8, 1.0), ("wide", 32, 64, 48, 0.7),
                                        ("wide, equal widths", 24, 40, 40, 0.4), ("independent", 32, 40, 40, None)]:
        cause = g.normal(size=(n, 4))
        view = lambda d: rounded(g.normal(size=(n, d)) if noise is None else cause @ g.normal(size=(4, d)) + noise * g.normal(size=(n, d)) + 0.3)
        x, y = view(left), view(right)
        cases.append(dict(name=name, a=x.tolist(), b=y.tolist(), values=measures(x, y)))
    # Ties in the distances: a grid.
    x = np.array([[i, j] for i in range(4) for j in range(4)], dtype=float)
    y = np.array([[i * j, i] for i in range(4) for j in range(4)], dtype=float)
    spearman = float(scipy.stats.spearmanr(scipy.spatial.distance.pdist(x), scipy.spatial.distance.pdist(y)).statistic)
    cases.append(dict(name="ties", a=x.tolist(), b=y.tolist(), values=dict(rsa_spearman=spearman)))

    # A probe is compared fold by fold: `held` rows by the probe of the others.
    n = 30
    x = rounded(g.normal(size=(n, 12)))
    y = rounded(x + 0.5 * g.normal(size=x.shape))
    classes = np.argmax(x @ g.normal(size=(12, 3)) + 0.5 * g.normal(size=(n, 3)), axis=1).tolist()
    values = rounded(x @ g.normal(size=12) + 2).tolist()
    held = list(range(0, 6))
    probes = dict(a=x.tolist(), b=y.tolist(), classes=classes, values=values, held=held, ridge=0.01)
    for kind, targets in [("classes", classes), ("values", values)]:
        own, other = probe(x, y, targets, held, 0.01, kind == "classes")
        probes[f"{kind}_own"], probes[f"{kind}_transferred"] = own.tolist(), other.tolist()

    rank, out, into = 4, 20, 16
    factor = lambda *shape: rounded(g.normal(size=shape))
    a1, b1, a2 = factor(rank, into), factor(out, rank), factor(rank, into)
    b2 = rounded(b1 @ g.normal(size=(rank, rank)) + 0.3 * g.normal(size=(out, rank)))
    a2[0] = a1[0]
    leading = lambda m, count: np.linalg.svd(m)[0][:, :count]
    subspaces = dict(a1=a1.tolist(), b1=b1.tolist(), a2=a2.tolist(), b2=b2.tolist(), cases=[])
    for side, u, v in [("A", a1.T, a2.T), ("B", b1, b2), ("Update", b1 @ a1, b2 @ a2)]:
        for count in (1, 2, rank):
            left, right = leading(u, count), leading(v, count)
            # Of the direction they share scipy finds an angle of 1.5e-8.
            angles = np.round(np.sort(scipy.linalg.subspace_angles(left, right)), 7)
            overlap = np.linalg.norm(left.T @ right) ** 2 / count
            subspaces["cases"].append(dict(side=side, count=count, overlap=float(overlap), angles=angles.tolist()))
    subspaces["update_cosine"] = float(np.sum((b1 @ a1) * (b2 @ a2)) / np.linalg.norm(b1 @ a1) / np.linalg.norm(b2 @ a2))
    return {"similarity/measures.json": cases, "similarity/probe.json": probes, "similarity/subspaces.json": subspaces}


# ---------------------------------------------------------------- metrics

def paper_ece(confidence, correct):
    """15 bins of n / 15 after sorting, the last takes the remainder, one bin under 15."""
    order = np.argsort(confidence, kind="stable")
    confidence, correct = np.asarray(confidence)[order], np.asarray(correct, dtype=float)[order]
    n = len(order)
    edges = [0, n] if n < 15 else [n // 15 * i for i in range(15)] + [n]
    return sum((b - a) / n * abs(correct[a:b].mean() - confidence[a:b].mean()) for a, b in zip(edges, edges[1:]))


def quantile_ece(confidence, correct, bins):
    """scikit-learn's bins of equal count; needs as many rows in each, so that all weigh the same."""
    share, mean = sklearn.calibration.calibration_curve(correct, confidence, n_bins=bins, strategy="quantile")
    assert len(share) == bins and len(confidence) % bins == 0
    return np.mean(np.abs(share - mean))


def nll_at(temperature, p, gold):
    scaled = scipy.special.softmax(np.log(p) / temperature, axis=1)
    return sklearn.metrics.log_loss(gold, scaled, labels=range(p.shape[1]))


def metric():
    g = np.random.default_rng(2)
    cases = []
    for n, labels, sharpness in [(150, 3, 2.5), (300, 2, 1.0), (203, 4, 4.0)]:
        logits = g.normal(size=(n, labels)) * sharpness
        gold = np.array([g.choice(labels, p=scipy.special.softmax(row / 1.7)) for row in logits])
        p = np.round(scipy.special.softmax(logits, axis=1), 6)
        p = np.maximum(p, 1e-6)
        p[np.arange(n), p.argmax(1)] += 1 - p.sum(1)
        p = np.round(p, 9)
        mass = np.round(g.uniform(0.3, 1, n), 4)
        for bins in (10, 15):
            assert np.all(np.abs(p * bins - np.round(p * bins)) > 1e-9), "on an edge"
        answer, confidence = p.argmax(1), p.max(1)
        correct = answer == gold
        tp, tg = torch.tensor(p), torch.tensor(gold)
        values = dict(
            accuracy=sklearn.metrics.accuracy_score(gold, answer),
            label_set_accuracy=sklearn.metrics.top_k_accuracy_score(gold, p, k=1, labels=range(labels)) if labels > 2 else np.mean(correct),
            nll=sklearn.metrics.log_loss(gold, p, labels=range(labels)),
            brier=sklearn.metrics.brier_score_loss(np.eye(labels)[gold] if labels == 2 else gold, p, labels=None if labels == 2 else range(labels), scale_by_half=False),
            answer_brier=sklearn.metrics.brier_score_loss(correct, confidence),
            answer_nll=sklearn.metrics.log_loss(correct, confidence),
            mean_confidence=confidence.mean(),
            entropy=scipy.stats.entropy(p, axis=1).mean(),
            ece_paper_15=paper_ece(confidence, correct),
        )
        # The likeliest token of all: the likeliest label, but for every fifth row, where it is none of them.
        top_1 = dict(correct=correct & (np.arange(n) % 5 > 0), confidence=np.round(confidence * mass, 6), mass=np.round((1 + confidence * mass) / 2, 6))
        assert np.all(np.abs(top_1["confidence"] * 15 - np.round(top_1["confidence"] * 15)) > 1e-9), "on an edge"
        values["top_1_accuracy"] = sklearn.metrics.accuracy_score(np.ones(n), top_1["correct"])
        values["top_1_ece_paper_15"] = paper_ece(top_1["confidence"] / top_1["mass"], top_1["correct"])
        if labels > 2:
            values["top_2_accuracy"] = sklearn.metrics.top_k_accuracy_score(gold, p, k=2, labels=range(labels))
        binned = {}
        for bins in (10, 15):
            for name, norm in [("ece", "l1"), ("mce", "max"), ("rmsce", "l2")]:
                binned[f"{name}_equal_width_{bins}"] = tm.multiclass_calibration_error(tp, tg, num_classes=labels, n_bins=bins, norm=norm)
            binned[f"classwise_ece_equal_width_{bins}"] = np.mean(
                [tm.binary_calibration_error(tp[:, k].contiguous(), (tg == k).long(), n_bins=bins, norm="l1") for k in range(labels)])
            if n % bins == 0:
                binned[f"ece_equal_mass_{bins}"] = quantile_ece(confidence, correct, bins)
                binned[f"adaptive_ece_{bins}"] = np.mean([quantile_ece(p[:, k], gold == k, bins) for k in range(labels)])
        binned["top_1_ece_equal_width_15"] = tm.binary_calibration_error(
            torch.tensor(top_1["confidence"]), torch.tensor(top_1["correct"]).long(), n_bins=15, norm="l1")
        best = scipy.optimize.minimize_scalar(nll_at, bracket=(0.5, 2), args=(p, gold), tol=1e-12)
        soft = scipy.special.softmax(p * mass[:, None], axis=1)
        reported = dict(ece=paper_ece(soft.max(1), correct), confidence=soft.max(1).mean(),
                        entropy=np.mean(-np.sum(soft * np.log(soft + 1e-10), axis=1)))
        drawn = scipy.stats.bootstrap((correct.astype(float),), np.mean, n_resamples=20000, method="percentile",
                                      confidence_level=0.9, rng=np.random.default_rng(0))
        bootstrap = dict(lower=drawn.confidence_interval.low, upper=drawn.confidence_interval.high, std=drawn.standard_error)
        floats = lambda numbers: {name: float(value) for name, value in numbers.items()}
        cases.append(dict(p=p.tolist(), gold=gold.tolist(), label_mass=mass.tolist(), top_1={name: of.tolist() for name, of in top_1.items()}, values=floats(values), binned=floats(binned),
                          temperature=float(best.x), nll_at_temperature=float(best.fun), reported=floats(reported), bootstrap=floats(bootstrap)))
    return {"metric/labels.json": cases}


# ---------------------------------------------------------------- statistics

def statistics():
    g = np.random.default_rng(3)
    cases = []
    for name, n, shift, step in [("five runs", 5, 0.6, None), ("twelve", 12, 0.3, None), ("fifty", 50, 0.2, None), ("sixty", 60, 0.5, None),
                                 ("ties and zeros", 12, 0.4, 0.5), ("many ties and zeros", 90, 0.3, 0.5), ("far apart", 30, 4.0, None),
                                 ("nothing there", 20, 0.0, None)]:
        first, second = g.normal(size=n), g.normal(size=n) + shift
        if step:
            first, second = np.round(first / step) * step, np.round(second / step) * step
        first, second = rounded(first), rounded(second)
        d = second - first
        if not step:
            assert len(set(np.abs(d))) == n, "a tie"
        t = scipy.stats.ttest_rel(second, first)
        interval = t.confidence_interval(0.9)
        kept = d[d != 0]
        ties = len(set(np.round(np.abs(kept), 9))) < len(kept)
        # scipy counts out samples without ties only; with them, all signs are gone through.
        method = "asymptotic" if len(kept) > 50 else scipy.stats.PermutationMethod(n_resamples=np.inf) if ties else "exact"
        ranked = scipy.stats.wilcoxon(np.round(kept, 9), method=method, correction=False)
        ranks = scipy.stats.rankdata(np.round(np.abs(kept), 9))
        own = scipy.stats.t.interval(0.9, n - 1, first.mean(), scipy.stats.sem(first))
        cases.append(dict(name=name, first=first.tolist(), second=second.tolist(), t=t.statistic, p_t=t.pvalue, lower=interval.low,
                          upper=interval.high, w=ranked.statistic, p_wilcoxon=ranked.pvalue, exact=bool(method != "asymptotic"),
                          d_z=d.mean() / d.std(ddof=1), rank_biserial=(ranks[kept > 0].sum() - ranks[kept < 0].sum()) / ranks.sum(),
                          mean_lower=own[0], mean_upper=own[1]))
    # Holm by its definition as a sequence of tests: the least level at which each hypothesis is rejected.
    p = rounded(g.uniform(0, 0.2, 7))
    p[3] = p[5]
    def rejected(level):
        out = set()
        for step, place in enumerate(np.argsort(p, kind="stable")):
            if p[place] > level / (len(p) - step):
                break
            out.add(int(place))
        return out
    levels = sorted({min(1.0, float(p[i]) * k) for i in range(len(p)) for k in range(1, len(p) + 1)})
    corrected = [next((level for level in levels if i in rejected(level * (1 + 1e-12))), 1.0) for i in range(len(p))]
    return {"statistics/paired.json": cases, "statistics/holm.json": dict(p=p.tolist(), corrected=corrected)}


# ---------------------------------------------------------------- calibration

def equal_width_ece(confidence, correct, bins):
    """torchmetrics' own, over bins [k/n, (k+1)/n); no value of ours lies on an edge."""
    # A binary task with the target "was it right" is the textbook's |accuracy - confidence| per bin.
    return tm.binary_calibration_error(
        torch.tensor(confidence, dtype=torch.float64), torch.tensor(correct), n_bins=bins, norm="l1").item()


def equal_mass_ece(confidence, correct, bins):
    """Sorted by confidence, bins of floor(n / bins) examples, the last takes the remainder; one bin if n < bins."""
    order = np.argsort(confidence, kind="stable")
    confidence, correct = np.array(confidence)[order], np.array(correct, dtype=float)[order]
    n = len(confidence)
    size = n // bins
    edges = [0, n] if size == 0 else [i * size for i in range(bins)] + [n]
    return float(sum((b - a) / n * abs(correct[a:b].mean() - confidence[a:b].mean()) for a, b in zip(edges, edges[1:])))


def write_calibration(root):
    g = np.random.default_rng(0)
    cases = []
    for n in (1, 10, 15, 100, 203):
        confidence = [round(float(c), 6) for c in g.beta(4, 2, n)]
        correct = [int(g.random() < 0.2 + 0.6 * c) for c in confidence]
        assert all(abs(c * 15 - round(c * 15)) > 1e-3 for c in confidence), "a confidence on an edge"
        cases.append(dict(confidence=confidence, correct=correct, bins=15,
                          equal_width=equal_width_ece(confidence, correct, 15),
                          equal_mass=equal_mass_ece(confidence, correct, 15)))
    (root / "ece.json").write_text(json.dumps(cases, indent=2) + "\n")


# ---------------------------------------------------------------- all of it

def plain(content):
    """Python's own types, floats to 11 digits."""
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [plain(value) for value in content]
    return float(f"{content:.11g}") if isinstance(content, float) else content


def write(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        files = similarity() | metric() | statistics()
    for file, content in files.items():
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(plain(content), separators=(",", ":"), allow_nan=False) + "\n")
    write_calibration(root)


if __name__ == "__main__":
    write(pathlib.Path(__file__).resolve().parents[1] / "golden")
