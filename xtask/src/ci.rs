//! `ci`: what the pipeline runs, in the order that fails fastest on what breaks most.

use anyhow::Result;

use crate::{
    codegen, lint,
    process::say,
    setup::{self, Consent, Purpose},
    test,
};

/// Lints, checks the generated code, then tests; `full` adds the licence checker.
pub(crate) fn ci(full: bool) -> Result<()> {
    setup::setup_for(&[Purpose::Lint, Purpose::Test], Consent::Given)?;
    if full {
        lint::install_deny()?;
    }
    lint::lint(&lint::LintArguments { yes: true, only_own: false })?;
    say("== generated code");
    codegen::codegen(true)?;
    test::test(&test::TestArguments { yes: true, ..Default::default() })
}
