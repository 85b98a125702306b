//! The words of the world: aspects of a sentence, the groups that can be its classes, and two or more wordings of each group.
//!
//! Every word belongs to exactly one wording, so a word tells its aspect, its group and its wording.
//! The lists were written for this example; nothing is copied from a data set.

/// What a sentence can speak about. Any aspect may define the label in an episode; the others are then distractors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    Opinion,
    Topic,
    Place,
    Time,
    Person,
}

pub const ASPECTS: [Aspect; 5] = [Aspect::Opinion, Aspect::Topic, Aspect::Place, Aspect::Time, Aspect::Person];

/// A possible class: its name and its wordings (lists of words that mean it).
pub struct Group {
    pub name: &'static str,
    pub wordings: &'static [&'static str],
}

const fn group(name: &'static str, wordings: &'static [&'static str]) -> Group {
    Group { name, wordings }
}

/// Wordings: 0 food, 1 film, 2 trip, 3 person.
pub const OPINION: [Group; 2] = [
    group(
        "good",
        &[
            "tasty delicious crisp juicy savory fresh creamy yummy",
            "gripping moving clever witty thrilling touching stunning brilliant",
            "sunny scenic relaxing smooth restful cosy peaceful breezy",
            "kind honest gentle polite generous loyal caring cheerful",
        ],
    ),
    group(
        "bad",
        &[
            "bland stale soggy greasy burnt salty rotten sour",
            "boring dull clumsy tedious shallow predictable silly noisy",
            "rainy crowded exhausting bumpy dirty gloomy delayed costly",
            "rude selfish cruel greedy lazy arrogant mean dishonest",
        ],
    ),
];

/// Wordings: 0 things, 1 people (animals: 0 wild, 1 tame).
pub const TOPIC: [Group; 12] = [
    group(
        "politics",
        &[
            "election parliament vote law treaty campaign debate senate",
            "senator minister mayor president voter diplomat governor candidate",
        ],
    ),
    group("sport", &["match goal stadium trophy race medal league ball", "striker coach goalkeeper referee athlete runner boxer swimmer"]),
    group("money", &["market stock loan profit tax price bank budget", "banker investor trader accountant broker lender buyer merchant"]),
    group(
        "science",
        &[
            "atom molecule telescope experiment gene theory laboratory planet",
            "physicist chemist biologist astronomer geologist researcher botanist inventor",
        ],
    ),
    group("food", &["soup pasta bread cheese salad cake pizza rice", "chef waiter baker butcher cook brewer grocer diner"]),
    group(
        "music",
        &["song piano guitar melody concert album violin drum", "singer drummer pianist composer guitarist violinist rapper conductor"],
    ),
    group(
        "tech",
        &["laptop phone robot software keyboard server website chip", "programmer hacker engineer coder gamer developer tester analyst"],
    ),
    group("animal", &["tiger wolf bear eagle shark fox lion whale", "dog cat horse cow sheep goat hen pig"]),
    group(
        "film",
        &["movie scene plot trailer script sequel cinema screen", "actor director producer screenwriter stuntman critic usher actress"],
    ),
    group(
        "travel",
        &["luggage ticket flight hotel passport map cruise train", "tourist pilot guide passenger hiker captain driver sailor"],
    ),
    group(
        "health",
        &["hospital vaccine pill fever clinic bandage virus surgery", "doctor nurse surgeon dentist patient pharmacist therapist medic"],
    ),
    group(
        "school",
        &[
            "exam lesson classroom homework textbook essay diploma lecture",
            "teacher student pupil principal tutor librarian professor graduate",
        ],
    ),
];

pub const PLACE: [Group; 4] = [
    group("home", &["kitchen bedroom attic cellar bathroom garage hallway porch"]),
    group("city", &["street mall station museum library office tower plaza"]),
    group("wild", &["forest river meadow beach desert lake valley island"]),
    group("farm", &["barn field orchard stable vineyard pasture ranch mill"]),
];

pub const TIME: [Group; 4] = [
    group("hour", &["morning noon afternoon evening midnight dawn dusk night"]),
    group("weekday", &["monday tuesday wednesday thursday friday saturday sunday"]),
    group("month", &["january february march april june july october december"]),
    group("season", &["spring summer autumn winter christmas easter"]),
];

pub const PERSON: [Group; 4] = [
    group("family", &["mother father sister brother uncle aunt cousin grandma"]),
    group("company", &["neighbor friend roommate colleague classmate partner teammate buddy"]),
    group("royalty", &["king queen prince princess duke baron knight emperor"]),
    group("youth", &["boy girl baby toddler kid child teen infant"]),
];

/// Function words and punctuation of the sentences, as they stand in a text (a leading space is part of the token).
pub const GLUE: &str = "the it one in was near is saw";
pub const MARKS: [&str; 14] =
    ["Text:", "\nLabel:", "Question:", "\nAnswer:", "\nChoices:", "\n", "\n\n", " ####", "?", ".", ",", " .", " ?", ":"];

/// Label words an episode may draw from: digits, the paper's remapped labels, and others. `yes` and `no` are not among them.
pub const LABELS: &str = "0 1 2 3 4 5 6 7 8 9 apple Friday banana Saturday Thursday Sunday Wednesday Monday \
                          true false red blue green black A B C D E F G H foo bar baz";

pub fn groups(aspect: Aspect) -> &'static [Group] {
    match aspect {
        Aspect::Opinion => &OPINION,
        Aspect::Topic => &TOPIC,
        Aspect::Place => &PLACE,
        Aspect::Time => &TIME,
        Aspect::Person => &PERSON,
    }
}

/// Words of a wording, at most `limit` of them.
pub fn words(aspect: Aspect, group: usize, wording: usize, limit: usize) -> Vec<&'static str> {
    groups(aspect)[group].wordings[wording].split(' ').take(limit).collect()
}

/// A class as it stands in an episode: one group, in some of its wordings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub aspect: Aspect,
    pub group: usize,
    pub wordings: Vec<usize>,
}

/// Pairs of groups that pretraining never contrasts: three rings of four topics (each with two opposite pairs that
/// are contrasted), and one pair in each aspect of four groups.
pub fn held_out(aspect: Aspect, a: (usize, usize), b: (usize, usize)) -> bool {
    let ((a, wa), (b, wb)) = (a, b);
    match aspect {
        // Opinions of food and of films: never good against bad among themselves, only against trips and people.
        Aspect::Opinion => a != b && wa < 2 && wb < 2,
        Aspect::Topic => a / 4 == b / 4 && ((a % 4 + 1) % 4 == b % 4 || (b % 4 + 1) % 4 == a % 4),
        Aspect::Place | Aspect::Person => (a.min(b), a.max(b)) == (0, 3),
        Aspect::Time => (a.min(b), a.max(b)) == (0, 3),
    }
}

/// Whether two classes must not be told apart in pretraining.
pub fn held_out_classes(a: &Class, b: &Class) -> bool {
    a.aspect == b.aspect && a.wordings.iter().any(|&wa| b.wordings.iter().any(|&wb| held_out(a.aspect, (a.group, wa), (b.group, wb))))
}
