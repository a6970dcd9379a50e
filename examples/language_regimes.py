"""Map the regimes of a small GPT with qk-norm on tiny-shakespeare: next-token prediction as a problem of your own.

    SCALEINV_DATA=... python examples/language_regimes.py [ELRS] [EPOCHS] [OUT]

Chance is the frequency of the most frequent character, the loss to compare with the entropy of single characters. What
keeps a scale (the last layer; parts of it have no norm behind them) is trained at ``other_lr``.
"""

import sys

import gpt

import scaleinv as si


def main() -> None:
    elrs = sys.argv[1] if len(sys.argv) > 1 else "1e-4:1:5"
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    out = sys.argv[3] if len(sys.argv) > 3 else "runs/language-regimes"
    text = gpt.text()[:65536]
    problem = si.language_model(gpt.GPT, text, context=gpt.LENGTH, name="small GPT on tiny-shakespeare")
    print(problem)
    print(f"chance error {problem.chance_error:.3f}, loss of a constant answer {problem.constant_loss:.3f} nats")
    sweep = si.sweep(problem, elr=elrs, epochs=epochs, out=out, batch_size=32, optimizer="adam", evaluation="online")
    print(sweep)


if __name__ == "__main__":
    main()
