//! Clients of a rule: those written in the file, and the list files it names.

use ipnet::IpNet;

use super::{
    super::{
        model::{ListFormat, ListRef, OnError},
        raw::{Common, RawClients},
    },
    CLIENTS_MAX, Check, LISTS_MAX,
};

/// Longest path of a list file, bytes.
const PATH_MAX: usize = 4_096;

impl Check {
    pub(super) fn clients(
        &mut self,
        common: &Common<'_>,
        clients: Option<&RawClients>,
    ) -> Vec<IpNet> {
        let Some(clients) = clients else { return Vec::new() };
        self.clients += clients.count;
        if self.clients > CLIENTS_MAX {
            let message = format!(
                "{} clients are over the limit of {CLIENTS_MAX} in a policy file; put them into a list file",
                self.clients
            );
            self.fail(common.line, format!("{}.clients", common.field), message);
            return Vec::new();
        }
        for (line, number, message) in &clients.mistakes {
            self.fail(*line, format!("{}.clients[{number}]", common.field), message.clone());
        }
        let mut nets = clients.nets.clone();
        nets.sort_unstable();
        nets.dedup();
        nets
    }

    pub(super) fn lists(&mut self, common: &Common<'_>) -> Vec<ListRef> {
        self.lists += common.lists.len();
        if self.lists > LISTS_MAX {
            let message = format!("{} list files are over the limit of {LISTS_MAX}", self.lists);
            self.fail(common.line, format!("{}.lists", common.field), message);
            return Vec::new();
        }
        let mut lists = Vec::with_capacity(common.lists.len());
        for (number, raw) in common.lists.iter().enumerate() {
            let (line, raw) = (raw.line(), &raw.value);
            let path = raw.file.value.trim();
            if path.is_empty() || path.len() > PATH_MAX || path.chars().any(char::is_control) {
                let message = "write the path of a file with an address or prefix a line";
                let field = format!("{}.lists[{number}].file", common.field);
                self.fail(raw.file.line(), field, message);
                continue;
            }
            let formats = [("plain", ListFormat::Plain), ("csv", ListFormat::Csv)];
            let default = if ends_with_csv(path) { ListFormat::Csv } else { ListFormat::Plain };
            let name = format!("lists[{number}].format");
            let format = self.word(common, &name, raw.format.as_ref(), &formats, default);
            let choices = [("refuse", OnError::Refuse), ("skip", OnError::Skip)];
            let name = format!("lists[{number}].on_error");
            let on_error =
                self.word(common, &name, raw.on_error.as_ref(), &choices, OnError::Refuse);
            // Relative to the folder of the policy file, whoever opens it.
            let path = if path.starts_with('/') {
                path.into()
            } else {
                format!("{}{path}", self.folder).into()
            };
            lists.push(ListRef { path, format, on_error, line });
        }
        lists
    }
}

fn ends_with_csv(path: &str) -> bool {
    path.len() > 4 && path.get(path.len() - 4..).is_some_and(|end| end.eq_ignore_ascii_case(".csv"))
}
