"""Texts that the exclusion rules take out, by rule and kind, and texts that look like them and stay: made up for this, and
a line or two of old books."""

# ruff: noqa: E501, RUF001

EXCLUDED = [
    (
        "code",
        "code js",
        r"""function add(a, b) {
  return a + b;
}

const total = items.reduce((sum, x) => sum + x, 0);
console.log(total);

if (total > 10) {
  alert('big');
}
""",
    ),
    (
        "code",
        "code c",
        r"""#include <stdio.h>

int main(int argc, char **argv)
{
    int i;
    for (i = 0; i < 10; i++) {
        printf("%d\n", i);
    }
    return 0;
}
""",
    ),
    (
        "code",
        "code sql",
        r"""SELECT name, age FROM people
WHERE age > 30
ORDER BY name;

INSERT INTO people (name, age) VALUES ('Ann', 31);
UPDATE people SET age = 32 WHERE name = 'Ann';
""",
    ),
    (
        "code",
        "code html",
        r"""<div class="a">
  <ul>
    <li><a href="x">One</a></li>
    <li><a href="y">Two</a></li>
  </ul>
</div>
<script>
var x = 1;
</script>
""",
    ),
    (
        "code",
        "code py comments",
        r'''# Reads a file and counts its words.
# Usage: count.py FILE
import sys

def count(path):
    """Counts words."""
    with open(path) as f:
        return len(f.read().split())


if __name__ == '__main__':
    print(count(sys.argv[1]))
''',
    ),
    (
        "code",
        "shell",
        r"""$ sudo apt-get update
$ sudo apt-get install git
$ git clone https://x.org/y.git
$ cd y && make install
""",
    ),
    (
        "chat",
        "whatsapp",
        r"""12/03/2021, 21:14 - Anna: hey are you coming tonight?
12/03/2021, 21:15 - Ben: yes around 9
12/03/2021, 21:15 - Anna: ok great see you
12/03/2021, 21:20 - Ben: bring snacks
""",
    ),
    (
        "chat",
        "discord",
        r"""anna — Today at 9:14 PM
hey are you coming tonight?
ben — Today at 9:15 PM
yes around 9
anna — Today at 9:16 PM
ok great
""",
    ),
    (
        "chat",
        "irc2",
        r"""<bob> hi all
<alice> hello bob
<bob> anyone know how to fix this
* carol waves
<alice> no idea sorry
""",
    ),
    (
        "chat",
        "llmchat",
        r"""User: How do I boil an egg?
Assistant: Put it in boiling water for eight minutes.
User: And soft?
Assistant: Then five minutes will do.
""",
    ),
    (
        "chat",
        "nick",
        r"""bob: hey there
alice: hi bob what's up
bob: not much you?
alice: just working on stuff
""",
    ),
    (
        "forum",
        "reddit",
        r"""u/bigcat23 · 3 hours ago
I think this is a great idea and we should all do it.
42 points | Reply | Share | Report

u/smalldog · 2 hours ago
No way, that would never work in practice.
12 points | Reply | Share | Report

u/bigcat23 · 1 hour ago
Why not?
Reply Share
""",
    ),
    (
        "forum",
        "phpbb",
        r"""Re: Best camera for beginners
Postby johnny » Tue Mar 03, 2015 4:12 pm

Hi all, I was wondering which camera is best.

Joined: Jan 2010
Posts: 1,204
Top

Re: Best camera for beginners
Postby mike_b » Tue Mar 03, 2015 5:00 pm

johnny wrote:
> Hi all, I was wondering which camera is best.
Try a used one.
Joined: Feb 2011
Posts: 88
""",
    ),
    (
        "social",
        "tweets",
        r"""just landed in NYC!! can't wait 😍 #travel #nyc
@mike you have to see this https://t.co/abc
RT @news: big storm coming #weather
lol this day 😂😂 #monday
""",
    ),
    (
        "list",
        "bullets",
        r"""Things to pack:
- passport
- tickets
- two shirts
- a good book
- sunscreen
""",
    ),
    (
        "list",
        "numbered",
        r"""Instructions

1. Preheat the oven to 350 degrees.
2. Mix the flour and the sugar.
3. Add the eggs one at a time.
4. Bake for 40 minutes.
""",
    ),
    (
        "faq",
        "faq2",
        r"""Frequently Asked Questions

## What is the return policy?

You may return any item within thirty days of purchase.

## How long does shipping take?

Shipping takes between three and five working days.

## Do you ship abroad?

Yes, to most countries.
""",
    ),
    (
        "faq",
        "faqQ",
        r"""Q: What is your name?
A: My name is Bob.

Q: Where do you live?
A: In a small town near the sea.
""",
    ),
    (
        "math",
        "mathu",
        r"""Let f(x) = x² + 3x − 5. Then f′(x) = 2x + 3 = 0 ⇒ x = −3/2.

∫₀¹ x² dx = 1/3, ∑_{k=1}^n k = n(n+1)/2.

If a ≤ b then a + c ≤ b + c ∀ c ∈ ℝ.
""",
    ),
    (
        "math",
        "latex",
        r"""We have $\frac{a}{b} = \sqrt{c^2 + d^2}$ and hence $$\int_0^1 x^2 dx = \frac{1}{3}.$$

\begin{theorem} For all $x \in \mathbb{R}$, $e^{x} > 0$. \end{theorem}
""",
    ),
    (
        "non_english",
        "german",
        r"""Als Gregor Samsa eines Morgens aus unruhigen Träumen erwachte, fand er sich in seinem Bett zu einem ungeheueren Ungeziefer verwandelt. Er lag auf seinem panzerartig harten Rücken und sah, wenn er den Kopf ein wenig hob, seinen gewölbten, braunen Bauch.
""",
    ),
    (
        "non_english",
        "latin",
        r"""Gallia est omnis divisa in partes tres, quarum unam incolunt Belgae, aliam Aquitani, tertiam qui ipsorum lingua Celtae, nostra Galli appellantur. Hi omnes lingua, institutis, legibus inter se differunt.
""",
    ),
    (
        "non_english",
        "russian",
        r"""Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. Все смешалось в доме Облонских.
""",
    ),
    (
        "non_english",
        "dutch",
        r"""De kat zat op de mat en keek naar de vogel die in de tuin zat te zingen. Het was een mooie dag en de zon scheen fel boven het kleine dorp aan de rivier.
""",
    ),
    (
        "post",
        "review",
        r"""Worst phone ever!! Total waste of money. Battery dies in like 2 hours lol. 1/10 would not recommend. Save your money and buy something else.
""",
    ),
    (
        "post",
        "opinion",
        r"""Unpopular opinion but imo the book was way better than the movie... i mean the acting was sooooo bad tbh. just my two cents, change my mind lol
""",
    ),
    ("repetitive", "repeat", "The same line again and again.\n" * 60),
    (
        "too_short",
        "short",
        r"""Hello there.
""",
    ),
    (
        "boilerplate",
        "cookie",
        r"""We use cookies to improve your experience. Click here to accept our cookie policy.

Subscribe to our newsletter. Follow us on Twitter.

Copyright 2019 Acme Inc. All rights reserved. Terms of use. Privacy policy.
""",
    ),
    (
        "symbols",
        "table",
        r"""Year  Sales  Cost
1999  1,200  800
2000  1,350  870
2001  1,500  910
2002  1,720  980
2003  1,810  990
""",
    ),
    (
        "list",
        "csv",
        r"""name,age,city
Ann,31,Paris
Ben,29,Rome
Cat,40,Oslo
Dan,22,Bonn
""",
    ),
    (
        "code",
        "json",
        r"""{
  "name": "Ann",
  "age": 31,
  "tags": ["a", "b"],
  "city": "Paris"
}
""",
    ),
    (
        "symbols",
        "log",
        r"""2021-03-01 12:00:01 INFO server started on port 8080
2021-03-01 12:00:02 WARN disk nearly full
2021-03-01 12:00:05 ERROR connection reset by peer
2021-03-01 12:00:09 INFO retrying in 5 s
""",
    ),
]

KEPT = {
    "dialogue": r""""Where have you been?" she asked.

"Nowhere."

"Nowhere? All night?"

"I walked by the river," he said. "I could not sleep."

"You might have told me."

"I might," he said, and sat down at the table. He looked at his hands for a long time, and she did not ask him anything more until the kettle began to sing.
""",
    "letter": r"""14 March 1887

My dear Edward,

I have your letter of the 9th, and am glad to hear that your mother is better. We have had nothing but rain since Tuesday; the lower meadow is under water, and John says that the bridge will not last another night.

You ask about the horse. I sold him to Mr. Pratt for thirty pounds, which is more than he was worth.

Your affectionate uncle,

R. H. Talbot
""",
    "diary": r"""Jan. 3. Rose at six. Cold, with a little snow. Walked to the mill and back before breakfast.

Jan. 4. Wrote all the morning. In the afternoon came Mr. Hale, who stayed until nine and talked of nothing but his bees.

Jan. 5. A headache. Read Gibbon in bed, and was the better for it.
""",
    "essay formula": r"""Einstein's famous equation is often quoted and seldom understood. It says that mass and energy are two forms of the same thing, and that a very little of the one makes a great deal of the other.

E = mc²

The square of the speed of light is an enormous number, and that is all the secret. A gram of matter, wholly turned into energy, would keep a large city in light for a year.

We do not know how to do that, and perhaps it is as well.
""",
    "play": r"""MRS. LINDE. Good morning, Nora. I have come to see whether you are well.

NORA. Is it really you, Christine? And I did not know you. But how could I? How changed you are!

MRS. LINDE. Yes, I am. In nine, ten long years one grows older.

NORA. Is it so long since we met? I suppose it is. Oh, the last eight years have been a happy time for me, I can tell you.
""",
    "verse": r"""The woods are lovely, dark and deep,
But I have promises to keep,
And miles to go before I sleep,
And miles to go before I sleep.

Whose woods these are I think I know.
His house is in the village though;
He will not see me stopping here
To watch his woods fill up with snow.
""",
    "dialect": r""""I dunno as I ever seed sich a thing," said the old man. "'E come in 'ere wi' 'is 'at on, an' 'e sez to me, sez 'e, Where's yer master? An' I sez, 'E ain't 'ere, an' 'e won't be 'ere till Sat'day." The boy laughed, and the two of them went down to the boats together, where the tide had begun to turn.
""",
    "philos numbered": r"""1. We must begin by asking what it is that we call a thing. It is not, as is commonly supposed, that which is before us when we open our eyes; for what is before us then is a patch of colour, which changes as we walk about it, and which no two of us see alike. The thing is something that we suppose to lie behind the patch.

2. It may be said against this that we never do see patches, and that a child sees its mother long before it sees a patch of colour. That is true, and it is of great importance for psychology; but it says nothing about what there is to be seen. We see, I shall maintain, what we have learnt to see.

3. From these two considerations it follows that the question what there is cannot be answered by looking. We have to ask what we mean, and there the matter becomes difficult, since most of us mean nothing in particular, and are content with that.
""",
    "email story": r"""She read the message twice. It had come from an address she did not know, j.hart@example.org, and it said only that the house was sold. She closed the machine and went out into the garden, where her brother was burning leaves.

"They have sold it," she said.

He did not look up. He had known for a week, and had not found the words for it; and now that she had found them he was ashamed, and went on raking.
""",
    "numbers history": r"""In 1848 there were 34,000 men under arms; by 1850 there were fewer than 12,000. The treaty of 3 May 1851 gave the province 1.2 million crowns, of which 400,000 had been paid by the end of 1852 and the rest never. The population, 2.4 million at the census of 1846, had fallen by a tenth.
""",
    "excited": r""""Fire! Fire!" cried the boy. "Oh! come quickly! The barn! the barn is burning!" They ran out, all of them, the cook with a spoon in her hand; and there it was, the whole roof alight, and old Simmons standing before it with a bucket and weeping like a child.
""",
    "interview novel": r"""Q. You were in the garden on the night of the fourth?

I was, sir, said the witness, and looked at the judge as though for help. The judge looked at the ceiling. It was a hot afternoon, and half the jury were asleep; and the prisoner, in his clean collar, seemed to attend to nothing but a fly upon the rail.
""",
    "quote essay": r"""Johnson somewhere says that a man who is tired of London is tired of life. I am not so sure.

> When a man is tired of London, he is tired of life.

It was written by one who had never seen the sea until he was past forty, and who thought a mountain a protuberance. There are other lives, and I have been tired of none of them as I have been tired of the Strand upon a wet evening in November.
""",
    "travel times": r"""The train leaves Victoria at 9:15 and is at Dover by eleven. We crossed in a calm, and I was not ill; my cousin was, though nobody else could have been, and lay upon a bench with a handkerchief over his face until Calais. At 4:30 we were in Paris, and by six o'clock we had quarrelled with two cabmen and a waiter.
""",
}

ESSAY_WITH_A_LIST = r"""There is a pleasure in making lists that has nothing to do with getting things done. My grandmother kept one on the kitchen door for forty years, and I never saw her cross anything off.

When she died we found the last of them. It said:

- flour
- thread, black
- write to Agnes

Nobody in the family knew who Agnes was. We asked everyone, and in the end my aunt wrote to an address on an old envelope, and a reply came from a woman in Leeds who had been at school with her.

I have kept the list. It hangs on my own door now, and from time to time I add something to it.
"""
