//! Where a secret must not be.

use std::{
    fmt::{self, Write as _},
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use crate::rig::{Rig, header, id};

const OLD: &str = "HushOldHushOldHushOldHushOld00000000001";
const NEW: &str = "HushNewHushNewHushNewHushNew00000000002";

/// Everything that is logged, in one text.
#[derive(Clone, Debug, Default)]
struct Everything(Arc<Mutex<String>>);

impl Visit for &Everything {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(text, "{field}={value:?}").unwrap();
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut &*self);
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut &*self);
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut &*self);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// What all processes of this host were started with: ours and nginx's are among them.
fn started_with() -> String {
    let files = |pid: i32| ["cmdline", "environ"].map(|file| format!("/proc/{pid}/{file}"));
    let all = palisade_agent::sys::proc::pids().into_iter().flat_map(files);
    all.map(|f| String::from_utf8_lossy(&fs::read(f).unwrap_or_default()).into_owned()).collect()
}

#[tokio::test]
async fn a_secret_is_in_no_log_no_process_list_no_document_and_not_sent_to_the_application() {
    let Some(mut rig) = Rig::build() else { return };
    let logged = Everything::default();
    let _guard = tracing::subscriber::set_default(logged.clone());
    let guard = rig.start(&[OLD]).await;
    rig.write_secrets(&[NEW]);
    guard.refresh().await;
    let mut documents = String::new();
    for value in [OLD, NEW] {
        assert_eq!(rig.status(&header(value)), 200);
    }
    // A failure that quotes the file with the secrets.
    rig.write_site(&format!("include {}/palisade/origin.map;", rig.dir.path().display()));
    rig.write_secrets(&[NEW, "HushNextHushNextHushNextHushNext00003"]);
    let failed = guard.handle.refresh().await.unwrap();
    documents.push_str(&serde_json::to_string(&failed).unwrap());
    documents.push_str(&format!("{failed:?} {:?}", guard.handle));
    assert!(documents.contains("nginx -t"), "{documents}");
    guard.handle.drop_secret(id(OLD)).await.unwrap();
    let processes = started_with();
    assert!(processes.contains("nginx: worker process"), "nginx is not among them");
    guard.end().await;
    let heads = rig.heads.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
    assert!(heads.to_ascii_lowercase().contains("host: site"), "{heads}");
    let logged = logged.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(logged.contains(id(OLD).as_str()), "{logged}");
    for (what, text) in [
        ("the access log", rig.log("access.log")),
        ("the error log", rig.log("error.log")),
        ("nginx's notes", rig.log("palisade-origin.hits")),
        ("the process list", processes),
        ("what the application was sent", heads),
        ("our log", logged),
        ("a document", documents),
    ] {
        assert!(!text.is_empty() || what == "nginx's notes", "{what} is empty");
        assert!(!text.contains("Hush"), "{what} has a secret: {text}");
    }
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(rig.path(name)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("palisade/origin.map"), mode("state/state.json")), (0o600, 0o600));
}
