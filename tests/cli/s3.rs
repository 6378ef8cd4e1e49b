//! A server that speaks S3, on loopback, from the jar that `scripts/maven-jars.sh` fetches.

use super::program::eventually;
use kafka_broker::process::{free_port, spawn};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The bucket that it has.
pub const BUCKET: &str = "checkpoints";

/// The server; it ends with this, or with the test process.
pub struct Server {
    child: Child,
    port: u16,
    _data: tempfile::TempDir,
}

impl Server {
    /// Starts it with one empty bucket, and waits until it answers.
    pub fn start() -> Server {
        let (port, data) = (free_port(), tempfile::tempdir().expect("a folder"));
        let mut java = Command::new("java");
        let options = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-jar"];
        java.args(options).arg(jar()).args(["--server.port=0", "--server.address=127.0.0.1"]);
        java.arg(format!("--com.adobe.testing.s3mock.httpPort={port}"));
        java.arg(format!("--com.adobe.testing.s3mock.store.initial-buckets={BUCKET}"));
        java.arg(format!("--com.adobe.testing.s3mock.store.root={}", data.path().display()));
        java.current_dir(data.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server { child: spawn(java), port, _data: data };
        // It makes the bucket when it is first asked.
        eventually("answer of the S3 server", || {
            TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())?;
            let listed = super::interrupted::get(&format!("http://127.0.0.1:{port}/"));
            if listed.contains(BUCKET) { Ok(()) } else { Err(listed) }
        });
        server
    }

    /// What a client has in its environment. The keys are any.
    pub fn environment(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "anybody"),
            ("AWS_SECRET_ACCESS_KEY", "anything"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Stops it where it is, or has it go on.
    pub fn signal(&self, signal: libc::c_int) {
        kafka_broker::process::signal(&self.child, signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All of the server is in one jar.
fn jar() -> PathBuf {
    let folder = kafka_broker::jars("s3");
    let mut jars = std::fs::read_dir(folder).expect("the folder of the jar");
    jars.next().expect("a jar").expect("the folder can be read").path()
}
