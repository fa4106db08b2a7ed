"""Answers of detectors, what they say, and where the parser of FakeVLM's authors is wrong.

Each entry: the answer, what it says, and why that parser is wrong, or None. The parser looks for the substring "real"
and then for "fake", and chooses at random if it finds neither.
"""

SUBSTRING = "a substring"
LOTS = "it chooses at random"
SENSE = "it ignores the rest of the sentence"

ANSWERS: list[tuple[str, str, str | None]] = [
    # As in FakeClue's records.
    ("This is a fake image. The shadows fall in two directions; the fingers merge.", "fake", None),
    ("This is a real image. The noise is even and the light has one source.", "real", None),
    (" This is a fake image. The texture of the fur repeats.", "fake", None),
    ("\nThis is a real image. The edges are natural.", "real", None),
    ("\n\n  This is a fake image.", "fake", None),
    ("This is a real image.", "real", None),
    ("This is a fake image", "fake", None),
    # Other words with the same meaning.
    ("This image is fake. The hands have six fingers.", "fake", None),
    ("The image is real. Nothing is out of place.", "real", None),
    ("This image looks real. The skin has pores.", "real", None),
    ("The image looks fake because the text is garbled.", "fake", None),
    ("The photo appears to be fake. Its letters melt.", "fake", None),
    ("This picture seems real.", "real", None),
    ("It is a fake photo, made by a generator.", "fake", None),
    ("This is a fake satellite image. The roads end in fields.", "fake", None),
    ("This is a real animal photo. The fur is sharp.", "real", None),
    ("This is a fake document. The fonts change.", "fake", None),
    ("This is a fake face. The irises differ.", "fake", None),
    ("This is definitely a fake image.", "fake", None),
    ("The image is most likely fake.", "fake", None),
    ("I think this is fake. The sky is banded.", "fake", None),
    ("Yes, this is a real image.", "real", None),
    ("No, this is a fake image.", "fake", None),
    ("There is no doubt that this is a fake image.", "fake", None),
    ("This looks fake to me.", "fake", None),
    ("This picture of a dog is fake. It has five legs.", "fake", None),
    ("Fake.", "fake", None),
    ("real", "real", None),
    ("**Fake**", "fake", None),
    ("Answer: fake", "fake", None),
    ("The answer is real.", "real", None),
    ('This is a "fake" image.', "fake", None),
    ("A fake image. The reflection is missing.", "fake", None),
    ("It's a real image.", "real", None),
    ("The image does look real.", "real", None),
    ("This image, in my opinion, is fake.", "fake", None),
    ("The image you provided is real.", "real", None),
    ("This  is a\nfake image.", "fake", None),
    # Upper case.
    ("THIS IS A FAKE IMAGE. THE LIGHT IS WRONG.", "fake", None),
    ("This is a REAL image.", "real", None),
    ("Real. The grain is natural.", "real", None),
    # Both words in one answer.
    ("This is a real image, not a fake one.", "real", None),
    ("This is a fake image. It looks real at first sight.", "fake", None),
    ("This is a fake image, though it tries to look real.", "fake", SUBSTRING),
    ("The image is fake and not real.", "fake", SUBSTRING),
    ("This is a fake image: in a real one the horizon would be level.", "fake", SUBSTRING),
    ("This image is fake, with unrealistic shadows.", "fake", SUBSTRING),
    ("This is a fake image, as the surreal colours show.", "fake", SUBSTRING),
    ("While it may look really good, this is a fake image.", "fake", SUBSTRING),
    ("I cannot tell whether this image is real or fake.", "undecided", SENSE),
    ("This image could be real or fake.", "undecided", SENSE),
    ("Is this image real or fake? Hard to say.", "undecided", SENSE),
    ("The image is real/fake.", "undecided", SENSE),
    ("This image is both real and fake.", "undecided", SENSE),
    # Answers that look like a verdict and are none, or are the opposite.
    ("This is not a real image.", "undecided", SENSE),
    ("This isn't a real image. The ear is missing.", "undecided", SENSE),
    ("I don't think this is a fake image.", "undecided", SENSE),
    ("This might be a fake image.", "undecided", SENSE),
    ("The lighting looks unrealistic.", "undecided", SUBSTRING),
    ("This is an unrealistic image of a cat.", "undecided", SUBSTRING),
    ("This is a really nice image.", "undecided", SUBSTRING),
    ("This is a surreal painting.", "undecided", SUBSTRING),
    ("I realise that this is hard.", "undecided", SUBSTRING),
    ("The light in this image is real.", "undecided", SENSE),
    ("This is a photo of a real cat.", "undecided", SENSE),
    ("A real image would have noise.", "undecided", SENSE),
    ("This is a fakery.", "undecided", SUBSTRING),
    # The verdict comes late.
    ("The image shows a cat. This is a fake image.", "fake", None),
    ("The image shows a cat. It sits on a mat. This is a fake image.", "fake", LOTS),
    ("Let me look. The sky is blue. The grass is green. This is a real image.", "real", LOTS),
    ("Real images have noise. This one has none. This is a fake image.", "fake", SUBSTRING),
    ("The file is called img.v2.final. This is a fake image.", "fake", LOTS),
    # Neither word is in the answer.
    ("This is an AI-generated image.", "undecided", LOTS),
    ("The picture shows a dog on a beach.", "undecided", LOTS),
    ("I'm sorry, I can't help with that.", "undecided", LOTS),
    ("Does the image looks", "undecided", LOTS),
    # Other languages.
    ("Это поддельное изображение.", "undecided", LOTS),
    ("这是一张假图片。", "undecided", LOTS),
    ("这是一张fake图片。", "undecided", SUBSTRING),
    ("C'est une image truquée.", "undecided", LOTS),
    ("Das ist ein reales Bild.", "undecided", SUBSTRING),
    # Empty answers and cut-off ones.
    ("", "undecided", LOTS),
    ("   \n", "undecided", LOTS),
    (".", "undecided", LOTS),
    ("This is a", "undecided", LOTS),
    ("This is a fake", "fake", None),
    ("This is a fake image. The shad", "fake", None),
    ("This is a rea", "undecided", LOTS),
]

NOT_FAKE: list[tuple[str, str]] = [
    # Denied, with other words in between.
    ("There is no reason, given the noise, to believe that this is a fake image.", "undecided"),
    ("It cannot be said, given the grain, that this is a fake image.", "undecided"),
    ("I would not say, for example, that this is a fake image.", "undecided"),
    ("The image is not blurry and fake.", "undecided"),
    ("There are no artifacts, distortions, and nothing to suggest that the image is fake.", "undecided"),
    ("Nothing suggests this is a fake image.", "undecided"),
    ("The image is far from fake.", "undecided"),
    ("The image is anything but fake.", "undecided"),
    ("It would be wrong to conclude that this is a fake image.", "undecided"),
    ("It is false that this is a fake image.", "undecided"),
    ("The image lacks signs that it is fake.", "undecided"),
    ("Without any sign that this image is fake, I call it real.", "undecided"),
    ("I can rule out that this is a fake image.", "undecided"),
    ("This does not look\nfake.", "undecided"),
    ("This is not a\nfake image. It is real.", "real"),
    # In doubt.
    ("It is unlikely that this image is fake.", "undecided"),
    ("I doubt this image is fake.", "undecided"),
    ("Assuming this is a fake image, the light is odd. It is a real image.", "real"),
    # What somebody else says.
    ("Some people claim this image is fake. It is a real photograph.", "real"),
    ("Contrary to the claim that this is a fake image, it has noise.", "undecided"),
    ("The caption says it is fake. It is real.", "real"),
    ('The image is labelled "fake" by the watermark, but it is real.', "real"),
    ("Q: This is a fake image. A: No.", "undecided"),
    # About another thing than the image.
    ("The Christmas tree has plastic needles; it is fake. This is a real image.", "undecided"),
    ("The fur coat: this is fake. The image is real.", "undecided"),
    ("A fake, plastic tree stands in the corner. This is a real image.", "real"),
    ("The choice is real vs. fake. This is a real image.", "real"),
    ("Unlike, e.g. a fake image, it has noise. This is a real image.", "real"),
    # Taken back at once.
    ("Fake: no. Real: yes.", "undecided"),
    ("fake: false", "undecided"),
    ("Fake: 0.1, Real: 0.9", "undecided"),
    ("Fake, it is not.", "undecided"),
    ("Fake - no, real.", "undecided"),
    # The same for "real".
    ("I doubt that this is a real image.", "undecided"),
    ("The image looks almost real.", "undecided"),
    ("It was made to look real.", "undecided"),
]
"""Answers with "fake" or "real" that are not a verdict with this word, and what they say."""
