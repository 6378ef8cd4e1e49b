//! The manifests: each by itself, with one another, and with what the program does.

use super::schema::Schema;
use super::{in_effect, port, read, texts, yaml};
use crate::checkout::ROOT;
use crate::program::Place;
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub const FOLDER: &str = "deploy/kubernetes";
/// Files that are not applied together with the others, see kustomization.yaml.
const APART: [&str; 2] = ["secret.yaml", "servicemonitor.yaml"];
/// What the processor's end takes at most, seconds; README.md says so.
const ORDERLY_SECS: i64 = 10;
/// The longest time that Kubernetes waits before it starts a container again, seconds.
const LONGEST_BACK_OFF_SECS: i64 = 300;

pub fn manifest(name: &str) -> Value {
    yaml::parse(&read(&format!("{FOLDER}/{name}")))
}

/// Every object, with its file.
fn objects() -> Vec<(String, Value)> {
    let mut names: Vec<String> =
        texts(&manifest("kustomization.yaml")["resources"]).into_iter().chain(APART).map(str::to_owned).collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), manifest(&name))).collect()
}

fn pod() -> Value {
    manifest("statefulset.yaml")["spec"]["template"]["spec"].clone()
}

pub fn container() -> Value {
    let pod = pod();
    assert_eq!(pod["containers"].as_array().map(Vec::len), Some(1));
    pod["containers"][0].clone()
}

/// The item of a list that has this name.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut items = list.as_array().into_iter().flatten();
    items.find(|item| item["name"] == name).unwrap_or_else(|| panic!("no {name} in {list}"))
}

/// Whether labels have all that a selector asks for.
fn selects(selector: &Value, labels: &Value) -> bool {
    let asked = selector.as_object().filter(|asked| !asked.is_empty()).expect("a selector asks for something");
    asked.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[test]
fn every_object_is_what_kubernetes_knows() {
    let schema = Schema::load();
    for (name, object) in objects() {
        match schema.check(&object) {
            Some(wrong) => assert!(wrong.is_empty(), "{name}: {}", wrong.join("\n")),
            None => assert_eq!(object["kind"], "ServiceMonitor", "{name} is not looked at"),
        }
    }
}

#[test]
fn every_file_is_in_use() {
    let listed: BTreeSet<String> = objects().into_iter().map(|(name, _)| name).collect();
    let generated = manifest("kustomization.yaml")["configMapGenerator"][0]["files"].clone();
    let rest = texts(&generated).into_iter().chain(["kustomization.yaml"]).map(str::to_owned);
    let known: BTreeSet<String> = listed.into_iter().chain(rest).collect();
    let entries = std::fs::read_dir(ROOT.join(FOLDER)).expect("the folder");
    let there = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(known, there);
}

#[test]
fn all_are_in_the_namespace_of_the_documentation() {
    let namespace = manifest("namespace.yaml")["metadata"]["name"].clone();
    let set = manifest("statefulset.yaml")["metadata"]["name"].clone();
    assert_eq!(manifest("kustomization.yaml")["namespace"], namespace);
    let card = read("docs/reference-card.md");
    let command = format!("kubectl logs -f {}-0 -n {}", set.as_str().unwrap(), namespace.as_str().unwrap());
    assert!(card.contains(&command), "{command}");
    for name in APART {
        assert_eq!(manifest(name)["metadata"]["namespace"], namespace, "{name}");
    }
}

#[test]
fn the_number_of_pods_is_the_same_everywhere() {
    let set = manifest("statefulset.yaml");
    let container = container();
    let arguments = texts(&container["args"]);
    let after = |option: &str| arguments[arguments.iter().position(|argument| *argument == option).unwrap() + 1];
    let replicas = set["spec"]["replicas"].as_i64().expect("a number");
    assert_eq!(after("-n"), replicas.to_string());
    // A pod is called by its set, its number and the set's service, which gives it its address.
    let (name, service) = (&set["metadata"]["name"], &set["spec"]["serviceName"]);
    let cluster = named(&container["ports"], "cluster")["containerPort"].as_i64().expect("a number");
    let line = |index| format!("{}-{index}.{}:{cluster}", name.as_str().unwrap(), service.as_str().unwrap());
    let hosts = read(&format!("{FOLDER}/hosts.txt"));
    let hosts: Vec<&str> = hosts.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(hosts, (0..replicas).map(line).collect::<Vec<_>>());
    let variable = after("-p").strip_prefix("$(").and_then(|rest| rest.strip_suffix(')')).expect("a variable");
    let value = &named(&container["env"], variable)["valueFrom"]["fieldRef"]["fieldPath"];
    assert_eq!(value, "metadata.name");
}

#[test]
fn pods_find_each_other_before_they_are_ready() {
    let set = manifest("statefulset.yaml");
    let service = manifest("service-headless.yaml");
    assert_eq!(service["metadata"]["name"], set["spec"]["serviceName"]);
    assert_eq!(
        (&service["spec"]["clusterIP"], &service["spec"]["publishNotReadyAddresses"]),
        (&json!("None"), &json!(true))
    );
    assert_eq!(set["spec"]["podManagementPolicy"], "Parallel");
    // One at a time would stop at the first, which those that are left refuse.
    assert_eq!(set["spec"]["updateStrategy"]["type"], "OnDelete");
    let cluster = &in_effect(&format!("{FOLDER}/processor.yaml"))["cluster"];
    let patience = cluster["connect_timeout_secs"].as_i64().expect("seconds");
    assert!(patience > LONGEST_BACK_OFF_SECS, "{patience} s");
}

#[test]
fn selectors_find_what_they_mean() {
    let set = manifest("statefulset.yaml");
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    let policy = manifest("networkpolicy.yaml")["spec"].clone();
    let peers = policy["ingress"].as_array().unwrap().iter().flat_map(|rule| rule["from"].as_array().unwrap());
    let peers: Vec<&Value> = peers.filter_map(|from| from.get("podSelector")).collect();
    assert_eq!(peers.len(), 1);
    let selectors = [
        set["spec"]["selector"]["matchLabels"].clone(),
        set["spec"]["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].clone(),
        manifest("service-headless.yaml")["spec"]["selector"].clone(),
        manifest("service.yaml")["spec"]["selector"].clone(),
        manifest("poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"].clone(),
        policy["podSelector"]["matchLabels"].clone(),
        peers[0]["matchLabels"].clone(),
    ];
    for selector in selectors {
        assert!(selects(&selector, labels), "{selector} does not select {labels}");
    }
    assert_eq!(pod()["serviceAccountName"], manifest("serviceaccount.yaml")["metadata"]["name"]);
}

#[test]
fn prometheus_reads_the_pages() {
    let monitor = manifest("servicemonitor.yaml");
    assert_eq!(
        (&monitor["apiVersion"], &monitor["kind"]),
        (&json!("monitoring.coreos.com/v1"), &json!("ServiceMonitor"))
    );
    let keys: Vec<&String> = monitor["spec"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["endpoints", "selector"]);
    let services = ["service.yaml", "service-headless.yaml"].map(manifest);
    let selector = &monitor["spec"]["selector"]["matchLabels"];
    let selected = services.iter().filter(|service| selects(selector, &service["metadata"]["labels"]));
    let selected: Vec<&Value> = selected.collect();
    // Of two services that have a pod it would be read twice.
    assert_eq!(selected.len(), 1, "{selector}");
    let endpoint = &monitor["spec"]["endpoints"][0];
    let keys: Vec<&String> = endpoint.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["interval", "path", "port"]);
    assert!(is_page(&endpoint["path"]));
    named(&selected[0]["spec"]["ports"], endpoint["port"].as_str().expect("a name"));
}

/// Whether the program has this page.
fn is_page(path: &Value) -> bool {
    read("src/http/pages.rs").contains(&format!(".route({path}, get("))
}

#[test]
fn ports_are_those_that_the_program_listens_on() {
    let config = in_effect(&format!("{FOLDER}/processor.yaml"));
    let container = container();
    let ports = &container["ports"];
    let of = |name: &str| named(ports, name)["containerPort"].as_i64().expect("a number");
    assert_eq!(of("http"), port(&config["metrics"]["listen"]));
    assert_eq!(of("cluster"), port(&config["cluster"]["listen"]));
    for listen in [&config["metrics"]["listen"], &config["cluster"]["listen"]] {
        assert!(listen.as_str().unwrap().starts_with("0.0.0.0:"), "{listen} cannot be reached from outside the pod");
    }
    for name in ["service.yaml", "service-headless.yaml"] {
        for entry in manifest(name)["spec"]["ports"].as_array().unwrap() {
            assert_eq!(entry["port"], of(entry["targetPort"].as_str().unwrap()), "{name}");
        }
    }
    for rule in manifest("networkpolicy.yaml")["spec"]["ingress"].as_array().unwrap() {
        let name = rule["ports"][0]["port"].as_str().expect("a name");
        of(name);
        // The links are not encrypted: other pods may read the pages and nothing else.
        let among_themselves = rule["from"].as_array().unwrap().iter().all(|from| from.get("podSelector").is_some());
        assert_eq!(among_themselves, name == "cluster");
    }
}

#[test]
fn probes_ask_for_pages_that_mean_what_the_probe_is_for() {
    let container = container();
    for (probe, page) in [("startupProbe", "/health"), ("livenessProbe", "/health"), ("readinessProbe", "/ready")] {
        let asked = &container[probe]["httpGet"];
        assert_eq!(asked["path"], page, "{probe}");
        assert!(is_page(&asked["path"]));
        assert_eq!(asked["port"], "http");
    }
    let liveness = &container["livenessProbe"];
    let silence = liveness["periodSeconds"].as_i64().unwrap() * liveness["failureThreshold"].as_i64().unwrap();
    assert!(silence >= 60, "a process that is busy for {silence} s would be killed");
    let grace = pod()["terminationGracePeriodSeconds"].as_i64().unwrap();
    assert!(grace > ORDERLY_SECS, "it is killed after {grace} s");
}

#[test]
fn paths_are_below_what_is_mounted() {
    let (pod, container) = (pod(), container());
    let claims = manifest("statefulset.yaml")["spec"]["volumeClaimTemplates"].clone();
    let mounts = container["volumeMounts"].as_array().unwrap();
    let volumes: BTreeSet<&str> = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| &volume["name"])
        .chain(claims.as_array().unwrap().iter().map(|claim| &claim["metadata"]["name"]))
        .map(|name| name.as_str().unwrap())
        .collect();
    let mounted: BTreeSet<&str> = mounts.iter().map(|mount| mount["name"].as_str().unwrap()).collect();
    assert_eq!(mounted, volumes);

    let config = in_effect(&format!("{FOLDER}/processor.yaml"));
    let at = |path: &str| {
        let found = mounts.iter().find(|mount| {
            let folder = mount["mountPath"].as_str().unwrap();
            path == folder || path.starts_with(&format!("{folder}/"))
        });
        found.unwrap_or_else(|| panic!("{path} is not mounted"))["name"].as_str().unwrap()
    };
    assert_eq!(at(config["state"]["path"].as_str().unwrap()), "state");
    assert_eq!(at(config["state"]["checkpoint_path"].as_str().unwrap()), "checkpoints");
    let secret_file = config["cluster"]["secret_file"].as_str().unwrap();
    let files: Vec<&str> = texts(&container["args"]).into_iter().filter(|argument| argument.starts_with('/')).collect();
    assert_eq!(files.len(), 2);
    for path in files.iter().chain([&secret_file]) {
        assert_eq!(at(path), "config");
    }

    // What is in the folder of configuration and secret, by the name of the file.
    let sources = &named(&pod["volumes"], "config")["projected"]["sources"];
    let generator = &manifest("kustomization.yaml")["configMapGenerator"][0];
    assert_eq!(sources[0]["configMap"]["name"], generator["name"]);
    let item = &sources[1]["secret"]["items"][0];
    let there: BTreeSet<&str> =
        texts(&generator["files"]).into_iter().chain([item["path"].as_str().unwrap()]).collect();
    let asked = files.into_iter().chain([secret_file]).map(|path| path.rsplit('/').next().unwrap());
    assert_eq!(asked.collect::<BTreeSet<&str>>(), there);

    // All pods write checkpoints into one directory.
    let claim = manifest("checkpoints.yaml");
    assert_eq!(named(&pod["volumes"], "checkpoints")["persistentVolumeClaim"]["claimName"], claim["metadata"]["name"]);
    assert_eq!(claim["spec"]["accessModes"], json!(["ReadWriteMany"]));
}

#[test]
fn the_placeholder_of_the_secret_is_refused() {
    let secret = manifest("secret.yaml");
    let source = &named(&pod()["volumes"], "config")["projected"]["sources"][1]["secret"].clone();
    let (name, key) = (secret["metadata"]["name"].as_str().unwrap(), source["items"][0]["key"].as_str().unwrap());
    assert_eq!(source["name"], name);
    let command = format!("create secret generic {name} --from-literal={key}=\"$(openssl rand -hex 32)\"");
    for place in [format!("{FOLDER}/kustomization.yaml"), "README.md".to_owned()] {
        assert!(read(&place).contains(&command), "{place}: {command}");
    }
    // Applied with the others it would take the real one's place.
    assert!(!texts(&manifest("kustomization.yaml")["resources"]).contains(&"secret.yaml"));
    let place = Place::new();
    place.write("secret", secret["stringData"][key].as_str().expect("the placeholder"));
    place.write("c.yaml", crate::program::config("stdin", "[{type: stdout}]"));
    let environment = [("PROCESSOR_CLUSTER__SECRET_FILE", "secret"), ("PROCESSOR_CLUSTER__CONNECT_TIMEOUT", "1s")];
    let said = place.run_with(&["--config", "c.yaml", "-n", "2", "-p", "processor-0"], &environment);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("cluster.secret_file secret holds 10 bytes"), "{said:?}");
}

#[test]
fn variables_of_services_are_kept_away() {
    // Kubernetes would set them for the service of the pages.
    let service = manifest("service.yaml")["metadata"]["name"].as_str().unwrap().to_uppercase().replace('-', "_");
    let place = Place::new();
    place.write("c.yaml", crate::program::config("stdin", "[{type: stdout}]"));
    let host = format!("{service}_SERVICE_HOST");
    let said = place.run_with(&["validate", "--config", "c.yaml"], &[(&host, "10.0.0.1")]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert_eq!(pod()["enableServiceLinks"], false);
}

#[test]
fn pods_have_no_rights_that_they_do_not_need() {
    let (pod, container) = (pod(), container());
    let level = manifest("namespace.yaml")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"].clone();
    assert_eq!(level, "restricted");
    let user = super::image::user().to_string();
    let security = &pod["securityContext"];
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        assert_eq!(security[key].to_string(), user, "{key}");
    }
    let expected = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(container["securityContext"], expected);
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(manifest("serviceaccount.yaml")["automountServiceAccountToken"], false);
    for (key, value) in [("requests", "memory"), ("requests", "cpu"), ("limits", "memory")] {
        assert!(container["resources"][key][value].is_string(), "{key}.{value}");
    }
}

#[test]
fn a_node_can_be_drained() {
    let budget = manifest("poddisruptionbudget.yaml")["spec"].clone();
    assert_eq!((&budget["maxUnavailable"], &budget["unhealthyPodEvictionPolicy"]), (&json!(1), &json!("AlwaysAllow")));
}

#[test]
fn the_image_is_the_one_that_is_built() {
    let image = container()["image"].as_str().unwrap().to_owned();
    assert!(read("Makefile").contains(&format!("docker build --tag {image}:latest .")), "{image}");
    let images = manifest("kustomization.yaml")["images"].clone();
    assert_eq!(named(&images, &image)["newTag"], "latest");
    let binary = container()["command"][0].as_str().unwrap().to_owned();
    assert!(read("Dockerfile").contains(&format!(" {binary}\n")), "{binary}");
}
