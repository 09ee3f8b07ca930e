//! A rule of `allow` or `block`, and what all rules have: who wrote it and why, its time, its action.

use super::{
    super::{
        duration::{parse_ns, shown},
        model::{About, Protocol, Rule, RuleAction, What},
        placed::Placed,
        raw::{Common, RawClients},
    },
    Check,
};
use crate::{catalogue::parse_rfc3339, time::UnixNs};

impl Check {
    pub(super) fn plain(
        &mut self,
        common: &Common<'_>,
        what: What,
        owner: Option<&str>,
    ) -> Option<Rule> {
        if common.clients.is_none_or(|clients| clients.count == 0) && common.lists.is_empty() {
            let message =
                "no clients; write addresses such as 203.0.113.0/24, or any, or name list files";
            self.fail(common.line, format!("{}.clients", common.field), message);
        }
        if what == What::Allow {
            let remove = [
                (common.action.map(Placed::line), "action", "has no action"),
                (
                    common.include_shared.map(Placed::line),
                    "include_shared",
                    "applies to shared sources anyway",
                ),
                (common.max_share.map(Placed::line), "max_share", "drops nobody"),
            ];
            for (line, name, why) in remove {
                if let Some(line) = line {
                    let message = format!("an allow rule {why}; remove the line");
                    self.fail(line, format!("{}.{name}", common.field), message);
                }
            }
        }
        let rule = self.rule(common, common.clients, what, owner)?;
        if rule.what == What::Block
            && rule.action != RuleAction::Monitor
            && let Some(all) = rule.clients.iter().find(|net| net.prefix_len() == 0)
        {
            let warning = format!("rule `{}` drops every client ({all})", rule.about.id);
            self.warnings.push((common.line, warning));
        }
        Some(rule)
    }

    pub(super) fn rule(
        &mut self,
        common: &Common<'_>,
        clients: Option<&RawClients>,
        what: What,
        owner: Option<&str>,
    ) -> Option<Rule> {
        let before = self.errors.len();
        let about = self.about(common, owner);
        let clients = self.clients(common, clients);
        let lists = self.lists(common);
        let when = self.conditions(common);
        let action = self.action(common);
        if action == RuleAction::Reset && when.protocol == Some(Protocol::Udp) {
            let line = common.action.map_or(common.line, Placed::line);
            let message = "only TCP has a reset; write drop";
            self.fail(line, format!("{}.action", common.field), message);
        }
        let percent = self.percent(common);
        let max_share = self.max_share(common);
        let (starts, expires) = self.time(common);
        let is_allow = what == What::Allow;
        (self.errors.len() == before).then_some(Rule {
            about,
            what,
            clients,
            lists,
            when,
            action,
            percent,
            force: common.force.is_some_and(|force| force.value),
            max_share,
            include_shared: is_allow || common.include_shared.is_some_and(|shared| shared.value),
            starts,
            expires,
        })
    }

    fn about(&mut self, common: &Common<'_>, owner: Option<&str>) -> About {
        let id = &common.id.value;
        let line = common.id.line();
        let fits = (1..=64).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !fits {
            let message = format!(
                "`{}` is not an id; write 1 to 64 letters, digits, dots, dashes or underscores",
                shown(id)
            );
            self.fail(line, format!("{}.id", common.field), message);
        } else if let Some(first) = self.ids.insert(id.clone(), line) {
            let message =
                format!("`{id}` is the id of the rule in line {first} too; ids must differ");
            self.fail(line, format!("{}.id", common.field), message);
        }
        let mut text = |value: Option<&Placed<String>>, name: &str| {
            value.and_then(|value| self.text(value, &format!("{}.{name}", common.field)))
        };
        let about = About {
            id: id.as_str().into(),
            name: text(common.name, "name"),
            reason: text(common.reason, "reason"),
            origin: text(common.origin, "origin"),
            owner: text(common.owner, "owner").or_else(|| owner.map(Into::into)),
            line: common.line,
        };
        let refusals: Vec<String> = self
            .reasons
            .iter()
            .filter_map(|pattern| pattern.refusal(about.reason.as_deref()))
            .map(|refusal| format!("rule `{}`: {refusal}", shown(id)))
            .collect();
        let line = common.reason.map_or(common.line, Placed::line);
        for refusal in refusals {
            self.fail(line, format!("{}.reason", common.field), refusal);
        }
        about
    }

    fn action(&mut self, common: &Common<'_>) -> RuleAction {
        let words = [
            ("drop", RuleAction::Drop),
            ("reset", RuleAction::Reset),
            ("monitor", RuleAction::Monitor),
        ];
        self.word(common, "action", common.action, &words, RuleAction::Drop)
    }

    fn percent(&mut self, common: &Common<'_>) -> u8 {
        let Some(percent) = common.percent else { return 100 };
        match u8::try_from(percent.value) {
            Ok(value) if value <= 100 => value,
            _ => {
                let field = format!("{}.percent", common.field);
                self.fail(percent.line(), field, "write a number from 0 to 100");
                100
            }
        }
    }

    /// Share of a service's clients from which on the guard stops the rule.
    fn max_share(&mut self, common: &Common<'_>) -> Option<u8> {
        let share = common.max_share?;
        let value = u8::try_from(share.value).ok().filter(|value| (1..=100).contains(value));
        if value.is_none() {
            let message = "write a number from 1 to 100 (per cent of a service's clients; 100: the guard never stops this rule)";
            self.fail(share.line(), format!("{}.max_share", common.field), message);
        }
        value
    }

    /// From when and until when a rule is in force.
    fn time(&mut self, common: &Common<'_>) -> (Option<UnixNs>, Option<UnixNs>) {
        if let (Some(_), Some(ttl)) = (common.expires, common.ttl) {
            let message = "expires and ttl exclude each other; keep one";
            self.fail(ttl.line(), format!("{}.ttl", common.field), message);
        }
        let starts = self.date(common, "starts", common.starts);
        let expires = if common.expires.is_some() {
            self.date(common, "expires", common.expires)
        } else if let Some(text) = common.ttl {
            match parse_ns(&text.value) {
                Ok(ttl) => Some(UnixNs(starts.unwrap_or(self.changed).0.saturating_add(ttl))),
                Err(message) => {
                    self.fail(text.line(), format!("{}.ttl", common.field), message);
                    None
                }
            }
        } else {
            None
        };
        if let (Some(from), Some(until), Some(text)) = (starts, expires, common.expires)
            && from >= until
        {
            let message = "the rule expires before it starts; mend one of the two";
            self.fail(text.line(), format!("{}.expires", common.field), message);
        }
        (starts, expires)
    }

    fn date(
        &mut self,
        common: &Common<'_>,
        name: &str,
        text: Option<&Placed<String>>,
    ) -> Option<UnixNs> {
        let text = text?;
        let date = parse_rfc3339(&text.value);
        if date.is_none() {
            let message = format!(
                "`{}` is not a date; write 2026-12-31 or 2026-12-31T18:00:00Z",
                shown(&text.value)
            );
            self.fail(text.line(), format!("{}.{name}", common.field), message);
        }
        date
    }
}
