//! Student's t distribution: how likely a difference is if there is none.

/// The probability of a t at least this far from 0, on either side, with so many degrees of freedom. `None` where it is not defined.
pub fn two_sided(t: f64, freedom: f64) -> Option<f64> {
    if t.is_nan() || !freedom.is_finite() || freedom <= 0.0 {
        return None;
    }
    if t.is_infinite() {
        return Some(0.0);
    }
    Some(incomplete_beta(freedom / (freedom + t * t), t * t / (freedom + t * t), freedom / 2.0, 0.5).clamp(0.0, 1.0))
}

/// The regularized incomplete beta function at x; `rest` is 1 - x, which is given because x may be too near 1 to say it.
fn incomplete_beta(x: f64, rest: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if rest <= 0.0 {
        return 1.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * rest.ln()).exp();
    // The fraction converges quickly on one side of the mean only.
    match x < (a + 1.0) / (a + b + 2.0) {
        true => front * fraction(x, a, b) / a,
        false => 1.0 - front * fraction(rest, b, a) / b,
    }
}

/// Steps of the continued fraction at most; a few dozen are enough for all but huge degrees of freedom.
const MOST_STEPS: u32 = 10_000;
/// What stands for 0 where it would be divided by.
const TINY: f64 = 1e-300;

/// The continued fraction of the incomplete beta function, by Lentz's method.
fn fraction(x: f64, a: f64, b: f64) -> f64 {
    let away = |number: f64| if number.abs() < TINY { TINY } else { number };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    for step in 1..=MOST_STEPS {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        value *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        let factor = d * c;
        value *= factor;
        if (factor - 1.0).abs() < 1e-15 {
            break;
        }
    }
    value
}

/// The logarithm of the gamma function of a positive number, by Lanczos' approximation (about 15 digits).
fn ln_gamma(x: f64) -> f64 {
    const G: f64 = 7.0;
    const COEFFICIENTS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        let pi = std::f64::consts::PI;
        return (pi / (pi * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let sum = COEFFICIENTS
        .iter()
        .enumerate()
        .skip(1)
        .fold(COEFFICIENTS[0], |sum, (index, coefficient)| sum + coefficient / (x + index as f64));
    let t = x + G + 0.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1e-9), "{found} instead of {expected}");
    }

    #[test]
    fn one_degree_of_freedom_is_cauchys_distribution() {
        for t in [0.1, 0.5, 1.0, 2.0, 12.706, 1000.0f64] {
            near(two_sided(t, 1.0).unwrap(), 1.0 - 2.0 / std::f64::consts::PI * t.atan());
        }
    }

    #[test]
    fn two_degrees_of_freedom_have_a_closed_form() {
        for t in [0.01, 0.7, 1.0, 4.303, 60.0f64] {
            near(two_sided(-t, 2.0).unwrap(), 1.0 - t / (2.0 + t * t).sqrt());
        }
    }

    #[test]
    fn tables_agree() {
        // The critical values that tables print for 5 % and 1 %, to the three digits they have.
        for (t, freedom, p) in [(2.228, 10.0, 0.05), (2.042, 30.0, 0.05), (3.169, 10.0, 0.01), (1.960, 1e7, 0.05)] {
            assert!((two_sided(t, freedom).unwrap() - p).abs() < 1e-4, "{t} {freedom}");
        }
    }

    #[test]
    fn the_ends() {
        near(two_sided(0.0, 5.0).unwrap(), 1.0);
        assert_eq!(two_sided(f64::INFINITY, 5.0), Some(0.0));
        assert_eq!(two_sided(1.0, 0.0), None);
        assert_eq!(two_sided(f64::NAN, 5.0), None);
        assert!(two_sided(200.0, 1e6).unwrap() < 1e-100);
    }
}
