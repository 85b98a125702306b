use super::super::scan::whole;
use super::super::{boxed, paper};
use super::*;

fn all(text: &str) -> Vec<String> {
    numbers(&plain(text), true).into_iter().map(|number| number.value).collect()
}

#[test]
fn equal_numbers_have_one_spelling() {
    for (text, value) in [
        ("72", "72"),
        ("72.0", "72"),
        ("072", "72"),
        (".5", "0.5"),
        ("0.50", "0.5"),
        ("-0", "0"),
        ("-72", "-72"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("-\\$5", "-5"),
        ("−5", "-5"),
        ("(-5)", "-5"),
        ("x=-5", "-5"),
        ("x = - 5", "-5"),
        ("is negative 5", "-5"),
        ("minus 5", "-5"),
        ("50%", "50"),
        ("50\\%", "50"),
        ("5kg", "5"),
        ("18.", "18"),
        ("US$ 5", "5"),
        ("答案是5个", "5"),
        ("\\quad5", "5"),
        ("90^\\circ", "90"),
        ("the 5^{th}", "5"),
        ("12345678901234567890", "12345678901234567890"),
        // Thousands.
        ("72,000", "72000"),
        ("1,080.50", "1080.5"),
        ("9{,}500", "9500"),
        ("\\$9{,}500", "9500"),
        ("12\\,500", "12500"),
        ("12\\!500", "12500"),
        ("1,\\!000,\\!000", "1000000"),
        ("12\\;500", "12500"),
        ("12\\ 500", "12500"),
        ("12~500", "12500"),
        ("12 000", "12000"),
        ("1 234 567.5", "1234567.5"),
        ("12\u{2009}500", "12500"),
        ("12\u{202f}500", "12500"),
        ("12\u{a0}500", "12500"),
        ("12'500", "12500"),
        ("12’500", "12500"),
        ("12_500", "12500"),
        ("1,00,000", "100000"),
        ("12,34,567", "1234567"),
        ("1.234.567", "1234567"),
        ("123.456.789", "123456789"),
        ("1.234,56", "1234.56"),
        ("1.234", "1.234"),
        ("9\\text{,}500", "9500"),
        ("9\\thinspace 500", "9500"),
        ("12 500,75", "12500.75"),
        ("1.5 million", "1500000"),
        ("3 thousand dollars", "3000"),
        ("5 millions", "5000000"),
        ("5 millionaires", "5"),
        ("Rs.500", "500"),
        ("-.5", "-0.5"),
        // Digits of other scripts.
        ("１２，５００", "12500"),
        ("７", "7"),
        ("－７．５", "-7.5"),
        ("٣٤٥", "345"),
        ("१२", "12"),
        ("𝟓𝟎", "50"),
        // Fractions.
        ("3/4", "3/4"),
        ("3 / 4", "3/4"),
        ("3⁄4", "3/4"),
        ("48/2", "24"),
        ("6/8", "3/4"),
        ("1.5/2", "1.5/2"),
        ("½", "1/2"),
        ("-¾", "-3/4"),
        ("2½", "5/2"),
        ("2 ½", "5/2"),
        ("2 1/2", "5/2"),
        ("2\\frac{1}{2}", "5/2"),
        ("-2\\frac12", "-5/2"),
        ("\\frac{3}{4}", "3/4"),
        ("\\dfrac{3}{4}", "3/4"),
        ("\\tfrac34", "3/4"),
        ("-\\frac{3}{4}", "-3/4"),
        ("-\\frac34", "-3/4"),
        ("\\frac{-3}{4}", "-3/4"),
        ("\\frac{3}{-4}", "-3/4"),
        ("-\\frac{-3}{4}", "3/4"),
        ("\\frac{ 1{,}000 }{ 3 }", "1000/3"),
        ("\\frac{10}{5}", "2"),
        // Powers.
        ("1.5e3", "1500"),
        ("1.5E+3", "1500"),
        ("2e-3", "0.002"),
        ("1.5 x 10^3", "1500"),
        ("1.5×10³", "1500"),
        ("1.5 \\times 10^{3}", "1500"),
        ("1.5 \\cdot 10^{-2}", "0.015"),
        ("3e400", "3e400"),
        ("10^3", "1000"),
        ("2^{10}", "1024"),
        ("10²", "100"),
        ("10^{-3}", "0.001"),
        ("7^{999}", "7^999"),
        // Times and ratios.
        ("7:30", "7:30"),
        ("07:30", "7:30"),
        ("7:30 PM", "7:30pm"),
        ("7:30 a.m.", "7:30am"),
        ("3:4", "3:4"),
        ("1/2/2020", "1/2/2020"),
    ] {
        assert_eq!(all(text), [value], "{text}");
        // Wherever it stands.
        let text = format!("The whole comes to {text} then.");
        assert_eq!(all(&text), [value], "{text}");
    }
    assert_eq!(all("10-5 = 5, 1, 2"), ["10", "5", "5", "1", "2"]);
    assert_eq!(all("3–5"), ["3", "5"]);
    assert_eq!(all("1.5 million and 2 thousand of 3"), ["1500000", "2000", "3"]);
    assert_eq!(all("It is 1.234,56."), ["1234.56"]);
    for (text, quotient) in [("2 3/3", "1"), ("2 5/3", "5/3"), ("2\\frac{3}{3}", "1"), ("2\\frac{5}{3}", "5/3")] {
        assert_eq!(all(text), ["2", quotient], "no mixed number");
    }
    assert_eq!(all("8 minus 3"), ["8", "3"]);
    assert_eq!(all("- 5"), ["5"], "an item of a list");
    assert_eq!(all("1,00 and 1,0000"), ["1", "0", "1", "0"], "no groups of three");
    assert_eq!(all("12,345,67"), ["12345", "67"]);
    assert_eq!(all("1, 200"), ["1", "200"]);
    assert_eq!(all("1,200 300"), ["1200", "300"], "one kind of separator");
    assert_eq!(all("2020 100"), ["2020", "100"]);
    // Not what their digits alone say.
    for text in [
        "H2O x_2",
        "x^2",
        "x^{10}",
        "\\sqrt{3}",
        "3\\sqrt{2}",
        "2\\sqrt[3]{5}",
        "2\\pi",
        "5π",
        "√9",
        "\\frac{x}{2}",
        "\\frac{\\sqrt3}{2}",
        "2^x",
        "",
    ] {
        assert!(all(text).is_empty(), "{text}: {:?}", all(text));
    }
}

#[test]
fn the_first_place_that_is_there_decides() {
    for (text, value) in [
        ("48/2 = <<48/2=24>>24 clips.\n#### 72", Some("72")),
        ("#### 1\nno, #### -1,080 dollars", Some("-1080")),
        ("####\n72 apples", Some("72")),
        ("\\boxed{5} and then #### 7", Some("7")),
        ("so \\boxed{\\frac{1}{2}} or \\boxed{-12} of 30", Some("-12")),
        ("The answer is $1,250. That is 3 more", Some("1250")),
        ("ANSWER: 3 of 4", Some("3")),
        ("3 apples and 4 pears make 7.", Some("7")),
        ("#### none of the 3", Some("3")),
        ("#### none", None),
        ("no number", None),
        ("", None),
        // Issue 10.
        ("\\boxed{\\$9{,}500}", Some("9500")),
        ("The answer is $9{,}500.", Some("9500")),
        ("\\boxed{12\\,500}", Some("12500")),
        ("\\boxed{-\\frac{3}{4}}", Some("-3/4")),
        ("#### 12 000", Some("12000")),
        ("#### 1.5e3", Some("1500")),
        ("The answer is 7:30", Some("7:30")),
        ("#### ７２", Some("72")),
        ("The answer is ½.", Some("1/2")),
        ("the answer is 8 - 3 = 5.", Some("5")),
        ("#### Answer\n5", Some("5")),
        ("#### Final answer\n\n\\boxed{5}", Some("5")),
        // Headings.
        ("#### Final Answer:\nThe answer is 5 of 9.", Some("5")),
        ("#### Answer\nShe has 5 apples, not 9.", Some("5")),
        ("#### Answer\n5\n\n#### Verification\n2 + 3 is right", Some("5")),
        ("#### Step 1: Add\n2 + 3 = 5\n#### Step 2: Double\nThat makes 2 * 5 = 10.", Some("10")),
        ("### Answer\n5\n\nas 9 are gone", Some("5")),
        ("**Answer**\n\n$$\n5\n$$\nof 9", Some("5")),
        ("**Final Answer:** $5$ of 9", Some("5")),
        ("The answer is:\n\\[\n5\n\\]\nof 9", Some("5")),
        ("The answer is 5.\nI hope that this answer is clear to all 9.", Some("9")),
        ("The answer is 5.\nI hope that this answer is clear.", Some("5")),
        ("#### not known\n", None),
        ("**Answer**: 5\nas 9 are gone", Some("5")),
        ("**Answer:** 5\nas 9 are gone", Some("5")),
        ("Answer = 5, of 9", Some("5")),
        ("This answer isolates 5 of 9", Some("9")),
        ("The answer would be $9,500 of 9", Some("9500")),
        ("The answer equals 5 of 9", Some("5")),
        ("\\boxed{\\text{odd}} of 3", None),
        // Calculations.
        ("#### 8 - 3 = 5", Some("5")),
        ("#### 12 * 3 = 36 - 6 = 30 dollars", Some("30")),
        ("#### 8 apples - 3 apples = 5 apples", Some("5")),
        ("the answer is 5 = 2 + 3", Some("5")),
        ("the answer is 5 because 2 + 3 = 4 + 1", Some("5")),
        ("The answer is x = 5, y = 6", Some("5")),
        ("\\boxed{8-3=5}", Some("5")),
        ("\\boxed{3 \\times 4 = 12}", Some("12")),
        ("\\boxed{x = 5}", Some("5")),
        ("\\boxed{- 5}", Some("-5")),
        ("\\boxed{5\\text{ of }9}", Some("5")),
        ("#### 8 - 3 \\quad \\quad \\quad \\quad = 5", Some("5")),
        ("So 12 = 3 * 4", Some("12")),
        ("So 3 * 4 = 12", Some("12")),
        ("#### - 5", Some("-5")),
        ("It costs 12 000", Some("12000")),
        ("On day 3 120 apples", Some("120")),
        ("答：５０个", Some("50")),
    ] {
        assert_eq!(read(text).as_deref(), value, "{text}");
    }
}

#[test]
fn a_whole_number_is_nothing_else() {
    assert_eq!(whole("1,000").as_deref(), Some("1000"));
    assert_eq!(whole("-0.50").as_deref(), Some("-0.5"));
    for text in ["", "-", "1,2", "(1,000)", "3/4", "x", "1.", "1e5"] {
        assert_eq!(whole(text), None, "{text}");
    }
}

/// What a model that repeats itself may answer.
fn repeated(count: usize) -> Vec<String> {
    let pieces = [
        "\\frac{",
        "\\boxed{",
        "\\boxed",
        "\\boxed ",
        "\\fbox{1",
        "{",
        "}",
        "\\sqrt{",
        "\\frac{1}{",
        "\\text{",
        "1",
        "1,",
        "1,000,",
        "1 ",
        "1/",
        "1:",
        "1^{",
        "2 = ",
        "$",
        "-",
        "- ",
        "\\",
        "####",
        "#### ",
        "#### Answer\n",
        "#### Step 1\n",
        "answer is ",
        "answer *",
        "1 million",
        "answer",
        "answer: x ",
        "Answer\n",
        "½",
        "^",
        "1e",
        "1.",
        " ",
        "\n",
        "x1",
    ];
    let single = pieces.iter().map(|piece| piece.repeat(count));
    let nested = [("\\frac{", "}{2}"), ("\\sqrt{", "}"), ("\\boxed{", "}"), ("{", "}")];
    let nested = nested.iter().map(|(open, close)| format!("\\boxed{{{}1{}}}", open.repeat(count), close.repeat(count)));
    single.chain(nested).collect()
}

#[test]
fn long_and_deep_answers_are_read() {
    // A recursion so deep would end the process; work that grows with the square of the length would not end in minutes.
    for text in repeated(20_000) {
        assert_eq!(read(&text), read(&text));
        boxed::last(&text).map(boxed::normal);
        assert!(boxed::normal(&text).len() <= 10 * text.len());
        assert!(paper::number(&text).len() <= text.len());
        paper::boxed(&text);
        paper::after(&text, "####");
    }
}

#[test]
fn three_thousand_nested_fractions_are_kept_whole() {
    let deep = format!("{}x{}", "\\frac{".repeat(3000), "}{2}".repeat(3000));
    assert_eq!(boxed::normal(&deep), deep);
    assert_eq!(boxed::last(&format!("\\boxed{{{deep}}}")), Some(deep.as_str()));
    assert_eq!(boxed::normal("\\dfrac12\\sqrt{\\frac3{\\sqrt5}}"), "\\frac{1}{2}\\sqrt{\\frac{3}{\\sqrt{5}}}");
}
