//! What has to be reached, and what was not.

/// Figures that were compared with what is wanted.
#[derive(Debug, Default)]
pub(crate) struct Thresholds {
    missed: Vec<String>,
    met: usize,
}

impl Thresholds {
    /// Asks for a figure of at least `wanted`.
    pub(crate) fn at_least(&mut self, what: &str, is: f64, wanted: f64) {
        self.note(is >= wanted, format!("{what}: {is:.4}, wanted at least {wanted}"));
    }

    /// Asks for a figure of at most `wanted`.
    pub(crate) fn at_most(&mut self, what: &str, is: f64, wanted: f64) {
        self.note(is <= wanted, format!("{what}: {is:.4}, wanted at most {wanted}"));
    }

    fn note(&mut self, met: bool, text: String) {
        if met {
            self.met += 1;
        } else {
            self.missed.push(text);
        }
    }

    /// Prints what was missed; true when nothing was.
    pub(crate) fn print(&self) -> bool {
        println!("\n{} of {} thresholds met", self.met, self.met + self.missed.len());
        for missed in &self.missed {
            println!("MISSED {missed}");
        }
        self.missed.is_empty()
    }
}
