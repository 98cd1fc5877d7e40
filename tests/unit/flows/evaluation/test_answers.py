from flows.evaluation.answers import Answers


def test_the_next_process_reads_all_answers_but_a_torn_one(tmp_path):
    path = tmp_path / "answers"
    with Answers(path) as answers:
        first, second = answers.keys("loglikelihood", [("Q: é?", " yes"), ("Q: é?", " no")])
        answers.add(first, (-1.5, True))
        answers.add(second, (-2.0, False))
    path.write_bytes(path.read_bytes()[:-3])
    with Answers(path) as answers:
        assert answers.keys("loglikelihood", [("Q: é?", " yes")]) == [first]
        assert answers[first] == [-1.5, True]
        assert second not in answers
        answers.add(second, (-2.0, False))
    with Answers(path) as answers:
        assert answers[second] == [-2.0, False]


def test_a_repeated_question_has_an_answer_of_its_own(tmp_path):
    with Answers(tmp_path / "answers") as answers:
        keys = answers.keys("generate_until", [("Q", {"until": ["\n"]})] * 3)
        assert len(set(keys)) == 3
        assert answers.keys("generate_until", [("Q", {"until": ["\n"]})]) == keys[:1]
        assert answers.keys("loglikelihood", [("Q", {"until": ["\n"]})]) != keys[:1]
