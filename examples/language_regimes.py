"""Map the regimes of a small GPT with qk-norm on a page of tiny-shakespeare: next-token prediction as your own problem.

    SCALEINV_DATA=... python examples/language_regimes.py [ELRS] [EPOCHS] [OUT]

A page (4096 characters) is learned by heart in the 300 epochs, a million of characters would take days: only a run that
has come to its end shows its regime. Chance is the frequency of the most frequent character, the loss to compare with
the entropy of single characters. What keeps a scale (the last layer; parts of it have no norm behind them) is trained
by Adam at ``other_lr``. Some minutes on two cores.
"""

import argparse

import gpt

import scaleinv as si


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("elrs", nargs="?", default="1e-4:1:5")
    parser.add_argument("epochs", nargs="?", type=int, default=300)
    parser.add_argument("out", nargs="?", default="runs/language-regimes")
    given = parser.parse_args()
    text = gpt.text()[:4096]
    problem = si.language_model(gpt.GPT, text, context=gpt.LENGTH, name="small GPT on tiny-shakespeare")
    print(problem)
    print(f"chance error {problem.chance_error:.3f}, loss of a constant answer {problem.constant_loss:.3f} nats")
    sweep = si.sweep(
        problem,
        elr=given.elrs,
        epochs=given.epochs,
        out=given.out,
        batch_size=16,
        optimizer="adam",
        other_lr=1e-3,
        evaluation="online",
    )
    print(sweep)


if __name__ == "__main__":
    main()
