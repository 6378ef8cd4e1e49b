//! `processor late-report`, with a running processor and without.

use super::program::{EVENTS, Live, Place, Said, config, eventually};
use kafka_broker::process::free_addresses;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;

fn report(place: &Place, arguments: &[&str]) -> Said {
    place.run(&[&["late-report"], arguments].concat())
}

#[test]
fn it_tells_what_the_running_processor_has_counted() {
    let place = Place::new();
    let text = config("stdin", "[{type: file, path: r.jsonl}]");
    place.write("c.yaml", text.replace("{enabled: false}", "{listen: \"127.0.0.1:0\"}"));
    let mut live = Live::start(&mut place.command(&["--config", "c.yaml"]));
    let pages = live.pages();
    live.child.stdin.as_mut().expect("piped").write_all(EVENTS.as_bytes()).expect("it reads");
    let document: Value = eventually("report on six events", || {
        let said = report(&place, &["--url", &pages, "--json", "--bound", "400ms"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let document: Value = serde_json::from_str(&said.out).expect("JSON");
        if document["total"]["events"] == 6 { Ok(document) } else { Err(said.out) }
    });
    assert_eq!(document["max_out_of_orderness_ms"], 10_000);
    let total = &document["total"];
    assert_eq!((&total["late"], &total["furthest_behind_ms"]), (&json!(1), &json!(31_000)));
    let late_with = |bound: i64| {
        let rows = total["late_with"].as_array().expect("a list");
        let row = rows.iter().find(|row| row["max_out_of_orderness_ms"] == bound);
        row.unwrap_or_else(|| panic!("{bound}: {total}"))["late"].clone()
    };
    assert_eq!([0, 400, 1_000, 30_000, 60_000].map(late_with), [2, 2, 1, 1, 0].map(Value::from));
    assert_eq!(total["bounds"][3], json!({"on_time_share": 1.0, "max_out_of_orderness_ms": 31_000}));
    assert_eq!(document["partitions"].as_array().expect("a list").len(), 1);

    let said = report(&place, &["--url", &pages, "--bound", "40s"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for line in [
        "with max_out_of_orderness 10s, as configured, 17% of the events so far were late (1 of 6)",
        "with max_out_of_orderness 40s, 0% of the events so far would have been late",
        "the bound for 99.9% is 31s; the event furthest behind was 31s behind",
    ] {
        assert!(said.out.lines().any(|said| said == line), "{line}\n{}", said.out);
    }
    assert!(said.out.starts_with("6 events in 1 partition since 20"), "{}", said.out);
    assert!(said.out.contains("*10s") && said.out.contains("99.99%"), "{}", said.out);

    // The address as the configuration has it, and two processes of which one is the same.
    let port = pages.rsplit(':').next().expect("a port");
    place.write("fixed.yaml", config("stdin", "[stdout]").replace("{enabled: false}", &format!("{{listen: {port}}}")));
    let said = report(&place, &["--config", "fixed.yaml", "--url", &pages, "--json"]);
    let document: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert_eq!((&document["total"]["events"], said.code), (&json!(12), Some(0)));
}

/// Answers one request with this.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody asks");
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(answer.as_bytes());
    });
    address
}

#[test]
fn what_keeps_it_from_telling_is_one_line() {
    let place = Place::new();
    place.write("off.yaml", config("stdin", "[stdout]"));
    place.write("any.yaml", config("stdin", "[stdout]").replace("{enabled: false}", "{listen: \"127.0.0.1:0\"}"));
    let [nobody] = <[String; 1]>::try_from(free_addresses(1)).expect("one");
    let absent = answering("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno");
    let other = answering("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n<html></html>");
    for (arguments, part) in [
        (["--url", nobody.as_str()], format!("no processor answers on http://{nobody}: ")),
        (
            ["--url", absent.as_str()],
            format!("http://{absent}/lateness is not a page of this processor: it answers with 404"),
        ),
        (["--url", other.as_str()], format!("http://{other}/lateness is not a page of this processor: ")),
        (["--config", "off.yaml"], "off.yaml: metrics.enabled is false".to_owned()),
        (["--config", "any.yaml"], "any.yaml: metrics.listen has port 0".to_owned()),
    ] {
        let said = report(&place, &arguments);
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
        assert!(said.err.starts_with(&format!("processor: {part}")) && said.err.lines().count() == 1, "{}", said.err);
    }
}

#[test]
fn mistakes_in_the_usage_are_told_before_anybody_is_asked() {
    let place = Place::new();
    for (arguments, part) in [
        (&[][..], "--config <FILE>|--url <URL>"),
        (&["--url", "x:1", "--bound", "soon"], "--bound `soon`: a number of seconds"),
        (&["--url", "https://x"], "--url `https://x`: the address of the pages"),
        (&["--config", "absent.yaml"], "absent.yaml"),
    ] {
        let said = report(&place, arguments);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    assert!(report(&place, &["--help"]).out.contains("--bound <TIME>"));
}
