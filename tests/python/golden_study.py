"""Writes tests/data/study.json: what other programs find of the numbers that a study's evidence is made of.

    python tests/python/golden_study.py > tests/data/study.json

Needs numpy, pandas, scipy, statsmodels and relplot (`pip install relplot`), and R with lme4 and lmerTest (Debian: r-cran-lme4, r-cran-lmertest).
`mixed`: linear mixed models with crossed random intercepts, by lme4 (REML, Satterthwaite's degrees by lmerTest) and by statsmodels' MixedLM (one group,
`vc_formula`). `mixed_means`: a contrast of lme4's task effects. `crossed`: clustered errors, by statsmodels' one-way sums of squares and by pairs of values, one by one. `power`: scipy's noncentral t.
`calibration`: relplot's smooth ECE, and the paper's integral by scipy's quadrature; the debiased error and its interval by scipy's noncentral chi-square; Brier's parts;
areas under risk-coverage curves by going through all thresholds.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pandas as pd
import relplot
import scipy.integrate
import scipy.optimize
import scipy.stats
import statsmodels.api as sm
import statsmodels.formula.api as smf
from statsmodels.stats.sandwich_covariance import cov_cluster

R = """
suppressMessages(library(lmerTest))
args <- commandArgs(trailingOnly = TRUE)
data <- read.csv(args[1])
data$method <- factor(data$method, levels = unique(data$method))
data$run <- factor(data$run); data$row <- factor(data$row)
f <- lmer(as.formula(args[2]), data, REML = TRUE, control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9)))
s <- coef(summary(f)); v <- as.data.frame(VarCorr(f)); sd <- function(g) { x <- v$sdcor[v$grp == g]; if (length(x)) x else 0 }
cat(sprintf("%.12g", c(REMLcrit(f), sd("run"), sd("row"), sd("Residual"), nrow(s), s[, "Estimate"], s[, "Std. Error"], s[, "df"])), sep = " ")
"""


def lme4(frame, formula):
    with tempfile.TemporaryDirectory() as folder:
        data, script = pathlib.Path(folder, "data.csv"), pathlib.Path(folder, "fit.R")
        frame.to_csv(data, index=False)
        script.write_text(R)
        out = subprocess.run(["Rscript", script, data, formula], capture_output=True, text=True)
        numbers = [float(word) for word in out.stdout.split()]
        if not numbers:
            sys.exit(out.stderr)
    n = int(numbers[4])
    return dict(deviance=numbers[0], run=numbers[1], row=numbers[2], rest=numbers[3], estimate=numbers[5:5 + n], error=numbers[5 + n:5 + 2 * n], degrees=numbers[5 + 2 * n:])


def mixed():
    g = np.random.default_rng(0)
    cases = []
    for name, runs, rows, shared, run_sd, row_sd, methods in [
        ("differences, rows shared", 5, 40, 1.0, 0.5, 0.7, 1), ("differences, half of the rows shared", 6, 30, 0.5, 0.4, 0.6, 1),
        ("differences, no run effect", 8, 25, 1.0, 0.0, 0.8, 1), ("outcomes of three methods", 4, 20, 1.0, 0.6, 1.0, 3),
    ]:
        b, c = g.normal(0, run_sd, runs), g.normal(0, row_sd, rows)
        lines = []
        for run in range(runs):
            there = g.choice(rows, round(rows * shared), replace=False) if shared < 1 else np.arange(rows)
            for row in there:
                for method in range(methods):
                    lines.append((f"m{method}", run, int(row), round(0.2 + 0.3 * method + b[run] + c[row] + g.normal(), 3)))
        frame = pd.DataFrame(lines, columns=["method", "run", "row", "value"])
        formula = "value ~ method + (1 | run) + (1 | row)" if methods > 1 else "value ~ 1 + (1 | run) + (1 | row)"
        found = lme4(frame, formula)
        vc = {"run": "0 + C(run)", "row": "0 + C(row)"}
        fixed = "value ~ method" if methods > 1 else "value ~ 1"
        # Not every optimiser of statsmodels' finds the least: the best of them.
        model = lambda: smf.mixedlm(fixed, frame.assign(all=1), groups="all", vc_formula=vc, re_formula="0")
        fit = max((model().fit(reml=True, method=[method]) for method in ["lbfgs", "powell", "bfgs", "cg"]), key=lambda fit: fit.llf)
        names = list(fit.model.exog_vc.names)
        deviations = {name: float(np.sqrt(max(fit.vcomp[place], 0.0))) for place, name in enumerate(names)}
        theirs = dict(run=deviations["run"], row=deviations["row"], rest=float(np.sqrt(fit.scale)), estimate=fit.fe_params.tolist(),
                      error=fit.bse_fe.tolist(), deviance=float(-2 * fit.llf))
        cases.append(dict(name=name, method=frame.method.tolist(), run=frame.run.tolist(), row=frame.row.tolist(), value=frame.value.tolist(), lme4=found, statsmodels=theirs))
    return cases


MEAN = """
suppressMessages(library(lmerTest))
data <- read.csv(commandArgs(trailingOnly = TRUE)[1])
for (name in c("task", "stratum", "run", "row")) data[[name]] <- factor(data[[name]], levels = unique(data[[name]]))
# Strata are moved to the mean of their task.
of <- tapply(data$value, data$stratum, mean)
task <- tapply(as.character(data$task), data$stratum, function(x) x[1])
data$value <- data$value - of[data$stratum] + tapply(of, task[names(of)], mean)[as.character(data$task)]
f <- lmer(value ~ 0 + task + (1 | run) + (1 | row), data, REML = TRUE, control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9)))
share <- table(factor(task, levels = levels(data$task)))
s <- contest1D(f, as.numeric(share / sum(share)))
v <- as.data.frame(VarCorr(f)); sd <- function(g) v$sdcor[v$grp == g]
cat(sprintf("%.12g", c(s[["Estimate"]], s[["Std. Error"]], s[["df"]], s[["Pr(>|t|)"]], sd("run"), sd("row"), sd("Residual"))), sep = " ")
"""


def mixed_means():
    """The mean over strata by lme4, of tasks with one and with several N."""
    g = np.random.default_rng(3)
    cases = []
    for name, tasks, runs, rows, sizes in [("three tasks", 3, 4, 20, [1, 1, 1]), ("two tasks, one with three N", 2, 5, 16, [1, 3])]:
        lines = []
        for task in range(tasks):
            b, c = g.normal(0, 0.4, runs), g.normal(0, 0.6, rows)
            for run in range(runs):
                there = g.choice(rows, round(rows * 0.7), replace=False)
                for n in range(sizes[task]):
                    lines += [(f"t{task}", f"t{task}n{n}", f"t{task}r{run}", f"t{task}w{row}", round(0.2 * task + 0.3 * n + b[run] + c[row] + g.normal(), 3)) for row in there]
        frame = pd.DataFrame(lines, columns=["task", "stratum", "run", "row", "value"])
        with tempfile.TemporaryDirectory() as folder:
            data, script = pathlib.Path(folder, "data.csv"), pathlib.Path(folder, "fit.R")
            frame.to_csv(data, index=False)
            script.write_text(MEAN)
            out = subprocess.run(["Rscript", script, data], capture_output=True, text=True)
        numbers = [float(word) for word in out.stdout.split()] or sys.exit(out.stderr)
        found = dict(zip(["estimate", "error", "degrees", "p", "run", "row_deviation", "rest"], numbers))
        cases.append(dict(name=name, **{column: frame[column].tolist() for column in ["stratum", "run", "row", "value"]}, lme4=found))
    return cases


def crossed():
    g = np.random.default_rng(1)
    cases = []
    for name, tasks, runs, rows, sizes, share in [("one task", 1, 4, 30, 1, 1.0), ("two tasks, two N, half of the rows", 2, 3, 24, 2, 0.5), ("no row twice", 1, 5, 20, 1, 0.0)]:
        lines = []
        for task in range(tasks):
            b, c = g.normal(0, 0.3, runs), g.normal(0, 0.5, rows * (runs if share == 0 else 1))
            for run in range(runs):
                there = np.arange(rows * run, rows * (run + 1)) if share == 0 else g.choice(rows, round(rows * share), replace=False)
                for n in range(sizes):
                    lines += [(f"t{task}n{n}", f"t{task}r{run}", f"t{task}w{row}", round(0.1 + b[run] + c[row] + g.normal(), 3)) for row in there]
        frame = pd.DataFrame(lines, columns=["stratum", "run", "row", "value"])
        means = frame.groupby("stratum").value.transform("mean")
        counts = frame.groupby("stratum").value.transform("count")
        strata = frame.stratum.nunique()
        psi = ((frame.value - means) / (strata * counts)).to_numpy()
        run, row = frame.run.to_numpy(), frame.row.to_numpy()
        task = np.array([name[:2] for name in run])
        # By pairs of values.
        same_run, same_row = run[:, None] == run[None], row[:, None] == row[None]
        product = psi[:, None] * psi[None]
        size = {t: frame.run[task == t].nunique() for t in set(task)}
        by_task = {t: (task == t)[:, None] & (task == t)[None] for t in size}
        of_task = {t: size[t] / (size[t] - 1) * product[same_run & by_task[t]].sum() for t in size}
        run_variance = sum(of_task.values())
        row_groups = {t: frame.row[task == t].nunique() for t in size}
        row_sum = sum(row_groups[t] / (row_groups[t] - 1) * product[same_row & by_task[t]].sum() for t in size)
        cells = len(set(zip(run, row)))
        both = cells / (cells - 1) * product[same_run & same_row].sum()
        shared = sum(product[same_row & ~same_run & by_task[t]].sum() / (size[t] - 1) for t in size)
        row_variance = max(row_sum - both + shared, 0.0)
        free = sum(row_groups.values()) - len(row_groups)
        degrees = (run_variance + row_variance) ** 2 / (sum(v ** 2 / (size[t] - 1) for t, v in of_task.items()) + row_variance ** 2 / free)
        error = np.sqrt(run_variance + row_variance)
        mean = frame.groupby("stratum").value.mean().mean()
        half = scipy.stats.t.ppf(0.975, degrees) * error
        case = dict(name=name, stratum=frame.stratum.tolist(), run=run.tolist(), row=row.tolist(), value=frame.value.tolist(), mean=mean, error=error, degrees=degrees,
                    run_variance=run_variance, row_variance=row_variance, p=2 * scipy.stats.t.sf(abs(mean / error), degrees), lower=mean - half, upper=mean + half)
        if tasks == 1:
            # The same sums by statsmodels, which knows one stratum.
            fit = sm.OLS(frame.value, np.ones(len(frame))).fit()
            of = lambda names, correct: float(cov_cluster(fit, pd.factorize(names)[0], use_correction=correct)[0, 0])
            # Its correction is G/(G-1) (n-1)/(n-k), here with k = 1.
            assert np.isclose(of(run, True), run_variance)
            case["statsmodels"] = dict(run_variance=of(run, True), rest_variance=of(np.array([f"{a} {b}" for a, b in zip(run, row)]), True))
        cases.append(case)
    return cases


def power():
    cases = []
    for shift, degrees in [(0.0, 4.0), (1.0, 2.3), (2.8, 4.0), (3.5, 11.7), (2.0, 60.0), (6.0, 2.0)]:
        bound = scipy.stats.t.ppf(0.975, degrees)
        cases.append(dict(shift=shift, degrees=degrees, power=scipy.stats.nct.sf(bound, degrees, shift) + scipy.stats.nct.cdf(-bound, degrees, shift)))
    return cases


def kernel(t, f, sigma):
    """Gaussian, reflected at 0 and 1."""
    images = np.arange(-6, 7) * 2.0
    d, r = t - f, t + f
    return (scipy.stats.norm.pdf(d[:, None] + images, 0, sigma) + scipy.stats.norm.pdf(r[:, None] + images, 0, sigma)).sum(1)


def smooth(f, y, sigma):
    """The paper's integral."""
    t = np.linspace(0, 1, 4001)
    values = np.array([abs(np.mean(kernel(at, f, sigma) * (y - f))) for at in t])
    return float(scipy.integrate.trapezoid(values, t))


def calibration():
    g = np.random.default_rng(2)
    cases = []
    for name, n, gap in [("calibrated", 300, 0.0), ("overconfident", 200, 0.15), ("far off", 120, 0.5), ("labels of two confidences", 90, 0.1)]:
        f = g.uniform(0.5, 1, n)
        if name.startswith("labels"):
            f = np.where(g.random(n) < 0.5, 0.6, 0.9)
        f = np.round(f, 6)
        y = (g.random(n) < np.clip(f - gap, 0, 1)).astype(float)
        theirs, width = relplot.smECE(f, y, return_width=True)
        sigma = scipy.optimize.brentq(lambda s: smooth(f, y, s) - s, 1e-3, 1, xtol=1e-5)
        # 15 bins of equal count, equal confidences together in the earlier bin.
        order = np.argsort(f, kind="stable")
        cuts, fs, ys = [0], f[order], y[order]
        for chunk in np.array_split(np.arange(n), 15)[:-1]:
            end = chunk[-1] + 1
            while end < n and fs[end] == fs[end - 1]:
                end += 1
            cuts.append(int(end))
        cuts.append(n)
        bins = [(fs[a:b], ys[a:b]) for a, b in zip(cuts, cuts[1:]) if b > a]
        share = np.array([len(b[0]) / n for b in bins])
        count = np.array([len(b[0]) for b in bins])
        accuracy = np.array([b[1].mean() for b in bins])
        gaps = accuracy - np.array([b[0].mean() for b in bins])
        chance = np.where(count > 1, accuracy * (1 - accuracy) / np.maximum(count - 1, 1), gaps ** 2)
        square = float((share * (gaps ** 2 - chance)).sum())
        q = (share * gaps ** 2).sum()
        padded = (accuracy * count + 0.5) / (count + 1)
        v = share * padded * (1 - padded) / count
        scale, df = (v ** 2).sum() / v.sum(), v.sum() ** 2 / (v ** 2).sum()
        below = lambda e: scipy.stats.ncx2.cdf(q / scale, df, e * e / scale) if e > 0 else scipy.stats.chi2.cdf(q / scale, df)
        end = lambda tail: 0.0 if below(0) <= tail else scipy.optimize.brentq(lambda e: below(e) - tail, 0, 1, xtol=1e-12)
        reliability, resolution = (share * gaps ** 2).sum(), (share * (accuracy - y.mean()) ** 2).sum()
        # Risk and coverage at every threshold that occurs.
        points = [(0.0, None, 0.0)]
        for threshold in sorted(set(f), reverse=True):
            kept = f >= threshold
            points.append((kept.mean(), 1 - y[kept].mean(), float((1 - y[kept]).sum()) / n))
        points[0] = (0.0, points[1][1], 0.0)
        area = lambda place: float(scipy.integrate.trapezoid([point[place] for point in points], [point[0] for point in points]))
        cases.append(dict(
            name=name, confidence=f.tolist(), correct=y.astype(bool).tolist(), relplot=float(theirs), relplot_width=float(width), smooth=smooth(f, y, sigma), bandwidth=sigma,
            curve=[float((kernel(t, f, sigma) * y).sum() / kernel(t, f, sigma).sum()) for t in (0.6, 0.75, 0.9)],
            debiased=max(square, 0) ** 0.5, squared=square, lower=end(0.975), upper=end(0.025), brier=float(((f - y) ** 2).mean()), reliability=float(reliability),
            resolution=float(resolution), uncertainty=float(y.mean() * (1 - y.mean())), aurc=area(1), augrc=area(2),
        ))
    return cases


def plain(content):
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [plain(value) for value in content]
    return float(f"{content:.10g}") if isinstance(content, (float, np.floating)) else content


if __name__ == "__main__":
    print(json.dumps(plain(dict(mixed=mixed(), mixed_means=mixed_means(), crossed=crossed(), power=power(), calibration=calibration())), separators=(",", ":"), allow_nan=False))
