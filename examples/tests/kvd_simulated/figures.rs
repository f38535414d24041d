//! INFO: what is counted of commands and errors, and which sections it has.

use asynchat::Result;

use crate::scene::Scene;

fn section(text: &str, title: &str) -> Option<String> {
    let (_, text) = text.split_once(&format!("# {title} "))?;
    Some(text.split("# ").next()?.trim_end().to_owned())
}

#[test]
fn commands_and_errors_are_counted_until_they_are_reset() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let script = "SET k a\nGET k\nget k\nINCR k\nLPUSH k 1\nMULTI\nGET k\nINCR k\nEXEC\nGET\nnosuch\nCLIENT ID\nCLIENT HELP\n";
    scene.ask(&client, script)?;
    let text = scene.ask(&client, "INFO commandstats errorstats\n")?;
    let stats = section(&text, "Commandstats").ok_or("no section")?;
    assert_eq!(
        stats,
        "cmdstat_client|id:calls=1,failed_calls=0 cmdstat_exec:calls=1,failed_calls=0 cmdstat_get:calls=3,failed_calls=0 \
         cmdstat_incr:calls=2,failed_calls=2 cmdstat_lpush:calls=1,failed_calls=1 cmdstat_multi:calls=1,failed_calls=0 \
         cmdstat_set:calls=1,failed_calls=0"
    );
    let errors = section(&text, "Errorstats").ok_or("no section")?;
    assert_eq!(errors, "errorstat_ERR:count=4 errorstat_WRONGTYPE:count=1");
    let text = scene.ask(&client, "INFO stats\n")?;
    assert!(text.contains("total_commands_processed:12 "), "{text}");
    assert!(text.contains("total_error_replies:5 "), "{text}");
    scene.ask(&client, "CONFIG RESETSTAT\n")?;
    let text = scene.ask(&client, "INFO commandstats errorstats stats\n")?;
    let stats = section(&text, "Commandstats").ok_or("no section")?;
    assert_eq!(stats, "cmdstat_config|resetstat:calls=1,failed_calls=0");
    assert_eq!(section(&text, "Errorstats").as_deref(), Some(""));
    assert!(text.contains("total_commands_processed:1 "), "{text}");
    Ok(())
}

#[test]
fn sections_are_chosen_as_in_redis() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    for (arguments, has_commands, has_errors, has_server) in [
        ("", false, true, true),
        ("default", false, true, true),
        ("all", true, true, true),
        ("everything", true, true, true),
        ("commandstats", true, false, false),
        ("server COMMANDSTATS", true, false, true),
        ("default commandstats", true, true, true),
        ("nosuch", false, false, false),
    ] {
        let text = scene.ask(&client, &format!("INFO {arguments}\n"))?;
        let found = ["Commandstats", "Errorstats", "Server"].map(|it| section(&text, it).is_some());
        assert_eq!(found, [has_commands, has_errors, has_server], "{arguments}");
        assert_eq!(section(&text, "Latencystats"), None);
    }
    Ok(())
}

/// One that waits for the end of a pause, or is queued, is counted when it is executed.
#[test]
fn a_request_that_waits_is_counted_once() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    scene.ask(&other, "CLIENT PAUSE 1000 WRITE\n")?;
    scene.ask(&client, "INCR n\n")?;
    let text = scene.ask(&other, "INFO commandstats\n")?;
    assert!(!text.contains("cmdstat_incr"), "{text}");
    scene.ask(&other, "CLIENT UNPAUSE\n")?;
    let text = scene.ask(&other, "INFO commandstats\n")?;
    assert!(text.contains("cmdstat_incr:calls=1,"), "{text}");
    Ok(())
}
