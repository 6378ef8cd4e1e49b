//! Whether this CPU can run the program at all.
//!
//! The model: the program is compiled for CPUs with AVX2 and its like. Asking for a feature that the compiler takes for granted
//! is answered by the compiler, so the CPU is asked itself, first thing, before code that may use the features runs.

/// Fails with one line for a person where the CPU lacks what this build needs.
pub fn check() -> Result<(), String> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "this CPU lacks {}, which this build needs; build with RUSTFLAGS=\"-C target-cpu=native\" on this machine, or run it on a \
         CPU with AVX2",
        missing.join(", ")
    ))
}

#[cfg(not(target_arch = "x86_64"))]
fn missing() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(target_arch = "x86_64")]
fn missing() -> Vec<&'static str> {
    needed(read(1, 0), read(7, 0))
}

/// The registers of a leaf; nothing where the CPU has no such leaf.
#[cfg(target_arch = "x86_64")]
fn read(leaf: u32, subleaf: u32) -> Option<std::arch::x86_64::CpuidResult> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    (leaf <= __cpuid(0).eax).then(|| __cpuid_count(leaf, subleaf))
}

/// What of the features that this build uses is not among those of leaf 1 and leaf 7.
#[cfg(target_arch = "x86_64")]
fn needed(
    first: Option<std::arch::x86_64::CpuidResult>,
    seventh: Option<std::arch::x86_64::CpuidResult>,
) -> Vec<&'static str> {
    let ecx1 = first.map_or(0, |registers| registers.ecx);
    let ebx7 = seventh.map_or(0, |registers| registers.ebx);
    // (used by this build, name, there). Bits as in the manual of the instruction set.
    let features = [
        (cfg!(target_feature = "pclmulqdq"), "pclmulqdq", ecx1 & (1 << 1) != 0),
        (cfg!(target_feature = "fma"), "fma", ecx1 & (1 << 12) != 0),
        (cfg!(target_feature = "avx"), "avx", ecx1 & (1 << 28) != 0),
        (cfg!(target_feature = "bmi1"), "bmi1", ebx7 & (1 << 3) != 0),
        (cfg!(target_feature = "avx2"), "avx2", ebx7 & (1 << 5) != 0),
        (cfg!(target_feature = "bmi2"), "bmi2", ebx7 & (1 << 8) != 0),
    ];
    features.into_iter().filter(|(used, _, there)| *used && !there).map(|(_, name, _)| name).collect()
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use std::arch::x86_64::CpuidResult;

    #[test]
    fn the_cpu_that_runs_this_will_do() {
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn what_is_compiled_in_and_not_there_is_named() {
        let none = needed(None, None);
        assert_eq!(none.contains(&"avx2"), cfg!(target_feature = "avx2"));
        assert_eq!(none.contains(&"pclmulqdq"), cfg!(target_feature = "pclmulqdq"));
        let all = CpuidResult { eax: u32::MAX, ebx: u32::MAX, ecx: u32::MAX, edx: u32::MAX };
        assert!(needed(Some(all), Some(all)).is_empty());
        let without_avx2 = CpuidResult { ebx: !(1 << 5), ..all };
        let expected: &[&str] = if cfg!(target_feature = "avx2") { &["avx2"] } else { &[] };
        assert_eq!(needed(Some(all), Some(without_avx2)), expected);
    }
}
