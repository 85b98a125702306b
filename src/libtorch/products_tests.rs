//! Both libraries of f32 products, whichever this processor calls for: each in a process of its own, since the choice is made once.

use std::process::Command;

use tch::{Device, Kind, Tensor};

use super::operations::{PRODUCTS, has_onednn, linear, low_rank};

/// Values and gradients of products that are large enough for oneDNN, against those in f64. Prints which library was asked for.
#[test]
#[ignore = "the child of `both_libraries_give_the_same_products`"]
fn child() {
    println!("asked for {}", if has_onednn() { "onednn" } else { "mkl" });
    tch::manual_seed(0);
    let draw = |size: &[i64]| Tensor::randn(size, (Kind::Double, Device::Cpu));
    let (input, weight, bias, a, b) = (draw(&[3, 40, 96]), draw(&[128, 96]), draw(&[128]), draw(&[8, 96]), draw(&[128, 8]));
    let given = draw(&[3, 40, 128]);
    let outcome = |kind: Kind| {
        let [input, a, b] = [&input, &a, &b].map(|tensor| tensor.to_kind(kind).set_requires_grad(true));
        let [weight, bias, given] = [&weight, &bias, &given].map(|tensor| tensor.to_kind(kind));
        let plain = linear(&input, &weight, Some(&bias), false).unwrap();
        let adapted = low_rank((&input, None), (&weight, Some(&bias)), (&a, &b), 0.5, false).unwrap();
        let gradients = Tensor::run_backward(&[((&plain + &adapted) * &given).sum(None)], &[&input, &a, &b], false, false);
        [plain, adapted].into_iter().chain(gradients).map(|tensor| tensor.detach().to_kind(Kind::Double)).collect::<Vec<_>>()
    };
    for (place, (single, double)) in outcome(Kind::Float).iter().zip(outcome(Kind::Double)).enumerate() {
        let apart = (single - &double).norm().double_value(&[]) / double.norm().double_value(&[]);
        assert!(apart < 1e-6, "value {place}: {apart:.1e}");
    }
}

#[test]
fn both_libraries_give_the_same_products() {
    for name in ["onednn", "mkl"] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        // oneDNN then says what it computes.
        child.env(PRODUCTS, name).env("ONEDNN_VERBOSE", "1");
        let output = child.args(["--exact", "libtorch::products_tests::child", "--ignored", "--nocapture"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
        if name == "onednn" && !tch::utils::has_mkldnn() {
            return crate::skipped("this libtorch has no oneDNN");
        }
        assert!(text.contains(&format!("asked for {name}")), "{text}");
        let computed = text.lines().any(|line| line.contains("onednn_verbose") && line.contains(",exec,") && line.contains("f32"));
        assert_eq!(computed, name == "onednn", "{text}");
    }
}
