//! Why what is in force is not what is wanted: a file that was refused, and a host that the policy in force could not be compiled for.
//!
//! They come and go apart: a host that is as it should be again says nothing of a file, and a file that is still wrong nothing of the host.

/// The error that `status` shows, with what is known of where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Troubles {
    /// What the last try for a host that changed failed with; none once one went well.
    host: Option<String>,
}

impl Troubles {
    /// What of an error that is shown is not the host's: asked before a try for a host that changed.
    pub(super) fn of_the_file(&self, shown: Option<String>) -> Option<String> {
        shown.filter(|shown| self.host.as_ref() != Some(shown))
    }

    /// The try came to this; gives the error to show now.
    pub(super) fn recompiled(
        &mut self,
        of_the_file: Option<String>,
        outcome: &Result<(), String>,
    ) -> Option<String> {
        self.host = outcome.as_ref().err().cloned();
        of_the_file.or_else(|| self.host.clone())
    }

    /// Whether the policy in force is one for a host that is no more.
    pub(super) const fn of_the_host(&self) -> bool {
        self.host.is_some()
    }

    /// Something is in force that was made for the host as it is.
    pub(super) fn made_anew(&mut self) {
        self.host = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_host_ends_with_the_try_that_goes_well_and_one_of_the_file_does_not() {
        let (fault, other) = (|| Err("no room".to_owned()), || Err("busy".to_owned()));
        let mut troubles = Troubles::default();
        let mut after = |shown: Option<&str>, outcome: Result<(), String>| {
            let of_the_file = troubles.of_the_file(shown.map(ToOwned::to_owned));
            let shown = troubles.recompiled(of_the_file, &outcome);
            (shown, troubles.of_the_host())
        };
        let shown = |text: &str| Some(text.to_owned());
        assert_eq!(after(None, fault()), (shown("no room"), true));
        assert_eq!(after(Some("no room"), other()), (shown("busy"), true), "the last is told");
        assert_eq!(after(Some("busy"), Ok(())), (None, false));
        // A file that was refused before, and while the host is in trouble.
        assert_eq!(after(Some("p.yaml:3: wrong"), fault()), (shown("p.yaml:3: wrong"), true));
        assert_eq!(after(Some("p.yaml:3: wrong"), Ok(())), (shown("p.yaml:3: wrong"), false));
        assert!(after(None, fault()).1);
        troubles.made_anew();
        assert_eq!(troubles, Troubles::default());
    }
}
