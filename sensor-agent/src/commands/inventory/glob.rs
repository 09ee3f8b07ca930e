//! Patterns of the command line for names: `*` is any text, `?` one character; case does not count.

use std::{convert::Infallible, str::FromStr};

use sensor_core::glob::{Star, fits};

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands) struct Glob(Vec<char>);

impl FromStr for Glob {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_lowercase().chars().collect()))
    }
}

impl Glob {
    /// Whether all of a text fits.
    pub(in crate::commands) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.to_lowercase().chars().collect();
        fits(&self.0, &text, Star::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_count() {
        let glob: Glob = "orders.local".parse().unwrap();
        assert!(glob.matches("Orders.Local"));
        let glob: Glob = "Orders.*:8?".parse().unwrap();
        assert!(glob.matches("orders.LOCAL:80") && !glob.matches("orders.local"));
    }
}
