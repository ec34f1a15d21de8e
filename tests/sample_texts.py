"""Texts that the exclusion rules drop, by rule and kind, and similar texts that they keep.

They are written for these tests, except for a line or two from old books.
"""

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
        "code",
        "log",
        r"""2021-03-01 12:00:01 INFO server started on port 8080
2021-03-01 12:00:02 WARN disk nearly full
2021-03-01 12:00:05 ERROR connection reset by peer
2021-03-01 12:00:09 INFO retrying in 5 s
""",
    ),
    (
        "code",
        "sql query",
        r"""SELECT c.name, COUNT(o.id) AS orders, SUM(o.total) AS revenue
FROM customers c
LEFT JOIN orders o ON o.customer_id = c.id
WHERE o.created_at >= '2023-01-01'
GROUP BY c.name
HAVING COUNT(o.id) > 3
ORDER BY revenue DESC
LIMIT 20;

CREATE TABLE invoices (
    id SERIAL PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers(id),
    amount NUMERIC(10, 2) NOT NULL,
    paid BOOLEAN DEFAULT FALSE
);
""",
    ),
    (
        "code",
        "shell session",
        r"""$ git clone https://example.org/project.git
Cloning into 'project'...
remote: Enumerating objects: 1204, done.
remote: Total 1204 (delta 0), reused 0 (delta 0)
$ cd project
$ make -j4
cc -O2 -c -o main.o main.c
cc -O2 -c -o util.o util.c
cc -o project main.o util.o
$ ./project --version
project 1.4.2
$ sudo make install
install -m 755 project /usr/local/bin
""",
    ),
    (
        "code",
        "python trace",
        r"""Traceback (most recent call last):
  File "/srv/app/run.py", line 31, in <module>
    main()
  File "/srv/app/run.py", line 27, in main
    serve(config["port"])
  File "/srv/app/server.py", line 88, in serve
    sock.bind((host, port))
OSError: [Errno 98] Address already in use

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/srv/app/run.py", line 33, in <module>
    log.exception("failed", exc)
TypeError: exception() takes 2 positional arguments but 3 were given
""",
    ),
    (
        "code",
        "diff",
        r"""diff --git a/src/parse.c b/src/parse.c
index 83db48f..bf3a1c2 100644
--- a/src/parse.c
+++ b/src/parse.c
@@ -41,7 +41,9 @@ int parse(const char *text)
     const char *p = text;
-    while (*p != ' ')
+    while (*p && *p != ' ')
         p++;
+    if (!*p)
+        return -1;
     return p - text;
 }
""",
    ),
    (
        "code",
        "log file",
        r"""2024-03-01 12:00:01,123 INFO  [main] c.e.App - Starting application on host-17
2024-03-01 12:00:02,456 WARN  [pool-1] c.e.Db - Connection took 812 ms
2024-03-01 12:00:03,001 ERROR [http-8] c.e.Web - Request /api/users failed: timeout
2024-03-01 12:00:03,002 INFO  [http-8] c.e.Web - Retrying in 5 s
2024-03-01 12:00:08,017 INFO  [http-8] c.e.Web - Request /api/users ok in 120 ms
2024-03-01 12:01:00,000 INFO  [cron] c.e.Job - Cleanup removed 17 files
""",
    ),
    (
        "code",
        "haskell",
        r"""module Main where

import qualified Data.Map as M
import Data.List (sortBy)
import Data.Ord (comparing)

count :: Ord a => [a] -> M.Map a Int
count = foldr (\x -> M.insertWith (+) x 1) M.empty

main :: IO ()
main = do
  text <- getContents
  let pairs = sortBy (comparing snd) (M.toList (count (words text)))
  mapM_ print (take 10 (reverse pairs))
""",
    ),
    (
        "chat",
        "chat names and hours",
        r"""Sarah Miller  9:41 AM
Morning all, standup in 5

Dev Patel  9:42 AM
omw

Sarah Miller  9:43 AM
can someone share the link to the doc

Dev Patel  9:44 AM
it's pinned in the channel

Kim  9:44 AM
running late, start without me
""",
    ),
    (
        "chat",
        "chat written small",
        r"""me: hey
you up?
Lena: yeah whats up
me: cant sleep lol
Lena: same
Lena: wanna call
me: nah its late
Lena: ok night
me: night x
""",
    ),
    (
        "forum",
        "comments below an article",
        r"""12 Comments

Great article, thanks for sharing!
Reply · Like · 3 · 2d

Mark T. This is so true. Shared with my team.
Reply · Like · 1d

Ellen I disagree with point 3, we tried that and it failed badly.
Reply · Like · 5 · 1d

View 4 more replies
Log in to comment
""",
    ),
    (
        "boilerplate",
        "software licence",
        r"""Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT.
""",
    ),
    (
        "chat",
        "support chat",
        r"""Agent: Thank you for contacting support, my name is Priya. How may I help you today?
Customer: hi my order hasnt arrived
Agent: I am sorry to hear that. May I have your order number please?
Customer: 4471-AB
Agent: Thank you. One moment while I look that up for you.
Agent: I can see that it was shipped on Monday.
Customer: ok so when does it come
Agent: It should reach you by Friday.
""",
    ),
    (
        "code",
        "assembly",
        r"""section .data
msg db "hello", 10
len equ $ - msg
section .text
global _start
_start:
    mov eax, 4
    mov ebx, 1
    mov ecx, msg
    mov edx, len
    int 0x80
""",
    ),
    (
        "chat",
        "chat export with dates",
        r"""Marta, [14.05.22 18:03]
did you see the game

Ivo, [14.05.22 18:03]
YES

Ivo, [14.05.22 18:04]
what a finish

Marta, [14.05.22 18:05]
my dad nearly had a heart attack
""",
    ),
    (
        "chat",
        "chat with a bot",
        r"""HR Bot: Hello! I can answer questions about leave, pay and benefits.
Jonas: how many days off do i have left
HR Bot: You have 11 days of leave remaining this year.
Jonas: can i carry them over
HR Bot: Up to five days can be carried over until 31 March.
Jonas: ok thx
""",
    ),
    (
        "forum",
        "question site",
        r"""How do I descale a kettle without vinegar?
Asked 3 years ago
Modified 1 year ago
Viewed 12k times

14
I hate the smell of vinegar. What else works?

Share
Improve this question
Follow
asked Jan 4, 2020 at 10:11
teapot

3 Answers

21
Citric acid. Two spoons, boil, wait, rinse.

Share
answered Jan 4, 2020 at 11:02
limescale
""",
    ),
    (
        "social",
        "numbered thread",
        r"""1/ A thread on why your landing page doesn't convert 🧵

2/ Most people write about features. Nobody cares. #marketing

3/ Write about pain. Then relief. 💡

4/ Follow @growthguy for more! RT the first tweet if this helped 🙏
""",
    ),
    (
        "faq",
        "faq unmarked",
        r"""What is included in the price?
The price includes all meals and the transfer from the airport.

Do I need a visa?
Citizens of most countries do not need one for stays of up to ninety days.

Can I bring my dog?
Dogs are welcome in all rooms but not in the restaurant.

What is the cancellation policy?
You can cancel free of charge up to seven days before arrival.
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
    "numbered theses": r"""1. The world is not made of things alone, but of what is the case with them, and a list of things would leave out everything that we should want to know.

2. What is the case can be said; and what cannot be said is not therefore nothing, although we have no way of pointing to it except by falling silent in the right place.

3. A thought that could not have been otherwise tells us nothing about the world, and it is no accident that such thoughts are the ones of which we feel most certain.
""",
    "numbered suppositions": r"""(1) Suppose, first, that the will is free in the sense that nothing at all determines it; then it is hard to see why we should praise a man for what has merely happened in him.

(2) Suppose, next, that it is determined by his character; then we may praise his character, but he did not make it, and we are no further than before.

(3) Suppose, last, that he makes his character by acting; then the question returns for the first of his acts, and it returns with interest.
""",
    "play with speakers": r"""SOCRATES: And would you say that a man who knows what is good will do it?

CRITO: I should like to say so.

SOCRATES: But you do not say so.

CRITO: I have known too many men, Socrates.

SOCRATES: Then let us ask whether they knew what was good, or only what was pleasant to hear called by that name.
""",
    "diary with days": r"""Monday, January 4. Snow again. I walked to the post office and back and met nobody but the doctor, who was in a hurry.

Tuesday, January 5. The pipes have frozen. Henry melted snow on the stove and we washed in that. It smelled of smoke.

Wednesday, January 6. A thaw. Water came through the ceiling of the back room and ruined the map of Sweden. I cannot say that I am sorry.

Thursday, January 7. Began the third chapter. Wrote eleven lines and crossed out nine.
""",
    "first words in capitals": r"""THE house stood back from the road behind a wall, and was not to be seen in summer.

FROM the gate a path went down to the water; it had been gravel once, and was now moss.

WHERE the path ended there was a boat with no bottom, in which somebody had planted beans.
""",
    "inquest with hours": r"""The inquest on the body of Mrs. Amelia Porch, 62, of 9 Canal Street, was held on Thursday at the Dolphin Inn before Mr. J. Tranter, the coroner. William Porch, the husband, said that his wife had gone out at about half-past nine to look for the cat. She did not return. P.C. Ellis said that he found the deceased in the canal at 6.20 a.m. The cat was sitting on the bank. The jury returned a verdict of accidental death.
""",
    "questions of an essay": r"""What is time? Everybody knows, until he is asked. Is it a river? A river flows past its banks; past what does time flow? Is it a line? A line is all there at once, and yesterday is not. Why do we remember the past and not the future? Is it because the past is settled, or do we call it settled because we remember it? Such questions have one great merit, which is that they cost nothing to ask.
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
