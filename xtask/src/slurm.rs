//! SLURM on this machine, for the test of grids on a cluster: the packages, and root's rights where sudo gives them without a question.

use std::process::{Command, Stdio};

use crate::command;
use crate::project::Project;

const PACKAGES: [&str; 2] = ["slurm-wlm", "munge"];

/// Installs what is missing; false only where the test was run and failed. Where it is left out, says `why`.
pub fn run(project: &Project, why: &mut Option<String>) -> bool {
    let mut skipped = |reason: &str| {
        println!("{}{reason}: the test of a grid on SLURM is left out", command::SKIPPED);
        *why = Some(reason.to_owned());
        true
    };
    let root = command::output(Command::new("id").arg("-u")).is_some_and(|id| id == "0");
    let sudo = !root && quiet("sudo", &["-n", "true"]);
    if !root && !sudo {
        return skipped("SLURM's daemons need root, or a sudo that asks nothing");
    }
    let as_root = |arguments: &[&str]| match sudo {
        true => quiet("sudo", &[&["-n"], arguments].concat()),
        false => quiet(arguments[0], &arguments[1..]),
    };
    let there = || {
        ["/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/sbin/munged", "/usr/bin/sbatch"]
            .iter()
            .all(|path| std::fs::exists(path).unwrap_or(false))
    };
    let install = [&["apt-get", "install", "-y", "--no-install-recommends"], PACKAGES.as_slice()].concat();
    let installed = there() || as_root(&install) || as_root(&["apt-get", "update"]) && as_root(&install);
    if !installed || !there() {
        return skipped(&format!("the packages {} cannot be installed here (apt-get of Debian or Ubuntu)", PACKAGES.join(" and ")));
    }
    if root {
        println!("its packages are there; the test is one of the next step's");
        return true;
    }
    let mut test = command::cargo(project);
    test.args(["test", "--locked", "--test", "slurm"]).env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo -n -E");
    command::shown(&mut test).map_err(|failure| println!("{failure}")).is_ok_and(|status| status.success())
}

fn quiet(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
