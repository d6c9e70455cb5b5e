"""Nothing imports this but what lets payloads say what is imported."""

taken = True


class Lure:
    @staticmethod
    def from_json(data):
        raise AssertionError("a payload has made an object of a class that nobody allowed")

    @staticmethod
    def to_json(lure):
        return "lure"
