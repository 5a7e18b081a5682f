use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

/// The next instants after `from`, and the same ones found backwards.
fn check(schedule: &str, zone_name: &str, from: &str, expected: &[&str]) {
    let zone = zone(zone_name);
    let parsed: Schedule = schedule.parse().unwrap();
    let mut at: Timestamp = from.parse().unwrap();
    let mut found = Vec::new();
    for _ in expected {
        at = parsed.first_after(at, &zone).unwrap();
        found.push(at);
    }
    let text: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(text, expected, "{schedule} in {zone_name}");

    for pair in found.windows(2) {
        let just_before = pair[1] - SignedDuration::from_secs(1);
        assert_eq!(parsed.latest_by(just_before, &zone), Some(pair[0]));
        assert_eq!(parsed.latest_by(pair[1], &zone), Some(pair[1]));
    }
}

#[test]
fn a_nightly_schedule_fires_each_night() {
    check(
        "cron(0 1 * * ? *)",
        "UTC",
        "2026-11-20T12:00:00Z",
        &["2026-11-21T01:00:00Z", "2026-11-22T01:00:00Z"],
    );
}

#[test]
fn an_instant_is_not_later_than_itself() {
    check(
        "cron(0 1 * * ? *)",
        "UTC",
        "2026-11-21T01:00:00Z",
        &["2026-11-22T01:00:00Z"],
    );
}

#[test]
fn lists_ranges_steps_and_names_are_understood() {
    let from = "2026-11-20T12:00:00Z"; // a Friday
    let cases: [(&str, &[&str]); 7] = [
        (
            "cron(0,30 1 * * ? *)",
            &["2026-11-21T01:00:00Z", "2026-11-21T01:30:00Z"],
        ),
        (
            "cron(15 2/11 * * ? *)",
            &["2026-11-20T13:15:00Z", "2026-11-21T02:15:00Z"],
        ),
        (
            "cron(*/20 13 * * ? *)",
            &["2026-11-20T13:00:00Z", "2026-11-20T13:20:00Z"],
        ),
        (
            "cron(0 1 ? * MON-FRI *)",
            &["2026-11-23T01:00:00Z", "2026-11-24T01:00:00Z"],
        ),
        (
            "cron(0 1 ? * 1,7 *)",
            &["2026-11-21T01:00:00Z", "2026-11-22T01:00:00Z"],
        ),
        (
            "cron(0 1 1 jan,JUL ? *)",
            &["2027-01-01T01:00:00Z", "2027-07-01T01:00:00Z"],
        ),
        (
            "cron(0 1 1 1 ? 2028-2030/2)",
            &["2028-01-01T01:00:00Z", "2030-01-01T01:00:00Z"],
        ),
    ];
    for (schedule, expected) in cases {
        check(schedule, "UTC", from, expected);
    }
}

#[test]
fn days_counted_from_the_end_or_to_the_nearest_weekday_are_understood() {
    let from = "2026-11-20T12:00:00Z";
    let cases: [(&str, &[&str]); 7] = [
        (
            "cron(0 1 L * ? *)",
            &["2026-11-30T01:00:00Z", "2026-12-31T01:00:00Z"],
        ),
        (
            "cron(0 1 ? * L *)",
            &["2026-11-21T01:00:00Z", "2026-11-28T01:00:00Z"],
        ),
        (
            "cron(0 1 ? * 6L *)",
            &["2026-11-27T01:00:00Z", "2026-12-25T01:00:00Z"],
        ),
        (
            "cron(0 1 ? * FRI#3 *)",
            &["2026-12-18T01:00:00Z", "2027-01-15T01:00:00Z"],
        ),
        // A fifth Saturday, which not every month has.
        (
            "cron(0 1 ? * 7#5 *)",
            &["2027-01-30T01:00:00Z", "2027-05-29T01:00:00Z"],
        ),
        // The 15th is a Tuesday, a Friday and a Monday.
        (
            "cron(0 1 15W * ? *)",
            &[
                "2026-12-15T01:00:00Z",
                "2027-01-15T01:00:00Z",
                "2027-02-15T01:00:00Z",
            ],
        ),
        // The first of May 2027 is a Saturday: not back into April.
        (
            "cron(0 1 1W 5 ? *)",
            &["2027-05-03T01:00:00Z", "2028-05-01T01:00:00Z"],
        ),
    ];
    for (schedule, expected) in cases {
        check(schedule, "UTC", from, expected);
    }
}

#[test]
fn a_sunday_at_the_end_of_the_month_moves_to_friday() {
    // 28 February 2027 is a Sunday, 31 October 2026 a Saturday.
    check(
        "cron(0 1 28W 2 ? *)",
        "UTC",
        "2026-11-20T12:00:00Z",
        &["2027-02-26T01:00:00Z"],
    );
    check(
        "cron(0 1 31W 10 ? *)",
        "UTC",
        "2026-10-01T12:00:00Z",
        &["2026-10-30T01:00:00Z"],
    );
}

#[test]
fn the_leap_day_is_found_years_ahead_and_back() {
    check(
        "cron(0 1 29 2 ? *)",
        "UTC",
        "2026-11-20T12:00:00Z",
        &["2028-02-29T01:00:00Z", "2032-02-29T01:00:00Z"],
    );
}

#[test]
fn the_hour_is_that_of_the_time_zone() {
    check(
        "cron(0 1 * * ? *)",
        "Europe/Berlin",
        "2026-03-27T12:00:00Z",
        &[
            "2026-03-28T00:00:00Z",
            "2026-03-29T00:00:00Z",
            "2026-03-29T23:00:00Z",
        ],
    );
    check(
        "cron(0 1 * * ? *)",
        "Pacific/Auckland",
        "2026-11-20T12:00:00Z",
        &["2026-11-21T12:00:00Z"],
    );
}

#[test]
fn a_time_that_the_clocks_skip_is_skipped() {
    // In Berlin 02:30 of 29 March 2026 does not exist.
    check(
        "cron(30 2 * * ? *)",
        "Europe/Berlin",
        "2026-03-27T12:00:00Z",
        &["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"],
    );
}

#[test]
fn a_time_that_the_clocks_repeat_counts_once() {
    // In Berlin 02:30 of 25 October 2026 comes twice.
    check(
        "cron(30 2 * * ? *)",
        "Europe/Berlin",
        "2026-10-24T12:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    );
}

#[test]
fn a_rate_runs_from_the_moment_it_is_asked_about() {
    let schedule: Schedule = "rate(15 minutes)".parse().unwrap();
    let at: Timestamp = "2026-11-21T01:00:00Z".parse().unwrap();
    let next = schedule.first_after(at, &TimeZone::UTC).unwrap();
    assert_eq!(next.to_string(), "2026-11-21T01:15:00Z");
    assert_eq!(schedule.latest_by(at, &TimeZone::UTC), Some(at));
    assert_eq!(
        "rate(1 day)".parse::<Schedule>().unwrap().to_string(),
        "rate(1 day)"
    );
}

#[test]
fn a_schedule_that_is_over_or_not_begun_has_no_instant() {
    let schedule: Schedule = "cron(0 1 * * ? 2020)".parse().unwrap();
    let at: Timestamp = "2026-11-21T01:00:00Z".parse().unwrap();
    assert_eq!(schedule.first_after(at, &TimeZone::UTC), None);
    let schedule: Schedule = "cron(0 1 * * ? 2030)".parse().unwrap();
    assert_eq!(schedule.latest_by(at, &TimeZone::UTC), None);
}

#[test]
fn each_mistake_is_named() {
    for (schedule, expected) in [
        ("0 1 * * *", "is not a recurring schedule"),
        ("at(2026-11-21T01:00:00)", "is not a recurring schedule"),
        ("cron(0 1 * * ?)", "has 5 fields"),
        ("cron(0 1 * * * *)", "exactly one ?"),
        ("cron(0 1 ? * ? *)", "exactly one ?"),
        ("cron(60 1 * * ? *)", "\"60\" in the field minute"),
        ("cron(0 24 * * ? *)", "field hour"),
        ("cron(0 1 0 * ? *)", "field day-of-month"),
        ("cron(0 1 32W * ? *)", "field day-of-month"),
        ("cron(0 1 LW * ? *)", "field day-of-month"),
        ("cron(0 1 * FOO ? *)", "\"FOO\" in the field month"),
        ("cron(0 1 ? * 0 *)", "field day-of-week"),
        ("cron(0 1 ? * 2#6 *)", "field day-of-week"),
        ("cron(5-1 1 * * ? *)", "field minute"),
        ("cron(0/0 1 * * ? *)", "field minute"),
        ("cron(, 1 * * ? *)", "field minute"),
        ("cron(0 1 * * ? 1969)", "field year"),
        ("rate(0 minutes)", "is not a rate"),
        ("rate(5)", "is not a rate"),
        ("rate(5 weeks)", "is not a rate"),
        ("", "is not a recurring schedule"),
    ] {
        let error = schedule.parse::<Schedule>().unwrap_err().to_string();
        assert!(error.contains(expected), "{schedule}: {error}");
    }
}
