//! A real nginx in a namespace, with an access log that a test can count.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{Child, Lab, Namespace};

/// The log is taken for whole when it did not grow for so long,
const SETTLED_AFTER: Duration = Duration::from_millis(30);
/// or after so many times that.
const SETTLES_WITHIN: u32 = 200;

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    /// Master process.
    pub child: Child,
    log: PathBuf,
}

impl Nginx {
    /// Starts nginx with `servers` as the body of its `http` block and waits for `port`.
    pub fn start(lab: &Lab, namespace: &Namespace, port: u16, servers: &str) -> Result<Self> {
        Self::start_by(lab, namespace, port, servers, "")
    }

    /// As [`Nginx::start`], run by a prefix command line (such as one that enters a cgroup).
    pub fn start_by(
        lab: &Lab,
        namespace: &Namespace,
        port: u16,
        servers: &str,
        prefix: &str,
    ) -> Result<Self> {
        let folder = lab.folder().join(format!("nginx-{}-{port}", namespace.name()));
        fs::create_dir_all(folder.join("tmp"))?;
        let log = folder.join("access.log");
        let configuration = folder.join("nginx.conf");
        fs::write(&configuration, configuration_text(&folder, servers))?;
        let child = namespace.spawn(&format!(
            "{prefix} nginx -c {} -e {} -g 'daemon off;'",
            configuration.display(),
            folder.join("error.log").display()
        ))?;
        namespace
            .wait_for_port(port)
            .with_context(|| fs::read_to_string(folder.join("error.log")).unwrap_or_default())?;
        Ok(Self { child, log })
    }

    /// Lines of the access log: `method uri status`, one per answered request.
    pub fn log_lines(&self) -> Result<Vec<String>> {
        Ok(fs::read_to_string(&self.log)?.lines().map(str::to_owned).collect())
    }

    /// Answered requests so far. A line is written after its answer was sent: waits until no more come.
    pub fn requests(&self) -> Result<usize> {
        let mut before = self.log_lines()?.len();
        for _ in 0..SETTLES_WITHIN {
            thread::sleep(SETTLED_AFTER);
            let now = self.log_lines()?.len();
            if now == before {
                break;
            }
            before = now;
        }
        Ok(before)
    }
}

fn configuration_text(folder: &Path, servers: &str) -> String {
    let folder = folder.display();
    format!(
        "user root; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
           log_format plain '$request_method $request_uri $status $remote_addr';\n\
           access_log {folder}/access.log plain;\n\
           client_body_temp_path {folder}/tmp/body; proxy_temp_path {folder}/tmp/proxy;\n\
           fastcgi_temp_path {folder}/tmp/fastcgi; uwsgi_temp_path {folder}/tmp/uwsgi; scgi_temp_path {folder}/tmp/scgi;\n\
           keepalive_requests 10000000; keepalive_timeout 3600s; client_max_body_size 0;\n\
           large_client_header_buffers 8 64k;\n\
           default_type application/json;\n\
           {servers}\n\
         }}\n"
    )
}
