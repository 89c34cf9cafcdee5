"""The papers the house rests on, by the keys used in docstrings and docs; `docs/references.bib` holds the same keys."""

__all__ = ["SOURCES"]

SOURCES = {
    "AALMV25": "Achilli, Ambrogioni, Lucibello, Mézard, Ventura, Memorization and generalization in generative diffusion "
    "under the manifold hypothesis, J. Stat. Mech. (2025) 073401, arXiv:2502.09578",
    "AVSP24": "Achilli, Ventura, Silvestri, Pham, Raya, Krotov, Lucibello, Ambrogioni, Losing dimensions: geometric "
    "memorization in generative diffusion, arXiv:2410.08727 (2024)",
    "BBBM24": "Biroli, Bonnaire, de Bortoli, Mézard, Dynamical regimes of diffusion models, Nat. Commun. 15 (2024), "
    "arXiv:2402.18491",
    "BKMMZ19": "Barbier, Krzakala, Macris, Miolane, Zdeborová, Optimal errors and phase transitions in high-dimensional "
    "generalized linear models, PNAS 116, 5451 (2019)",
    "BM24": "Biroli, Mézard, Kernel density estimators in large dimensions, arXiv:2408.05807 (2024)",
    "BUBM25": "Bonnaire, Urfin, Biroli, Mézard, Why diffusion models don't memorize: the role of implicit dynamical "
    "regularization in training, NeurIPS 2025, arXiv:2505.17638",
    "D81": "Derrida, Random-energy model: an exactly solvable model of disordered systems, Phys. Rev. B 24, 2613 (1981)",
    "GMKZ20": "Goldt, Mézard, Krzakala, Zdeborová, Modeling the influence of data structure on learning in neural "
    "networks: the hidden manifold model, Phys. Rev. X 10, 041044 (2020)",
    "HKG26": "Hunt, Kamb, Ganguli, arXiv:2607.08041 (2026)",
    "KG24": "Kamb, Ganguli, An analytic theory of creativity in convolutional diffusion models, arXiv:2412.20292 (2024)",
    "GVM25": "George, Veiga, Macris, Denoising score matching with random features: insights on diffusion models from "
    "precise learning curves, arXiv:2502.00336 (2025)",
    "LM24": "Lucibello, Mézard, Exponential capacity of dense associative memories, Phys. Rev. Lett. 132, 077301 (2024)",
    "U26": "Urfin, Bonnaire, Biroli, Mézard, First learn, then memorize: the spectral bias of diffusion models (2026)",
    "VASLA25": "Ventura, Achilli, Silvestri, Lucibello, Ambrogioni, Manifolds, random matrices and spectral gaps: the "
    "geometric phases of generative diffusion, ICLR 2025, arXiv:2410.05898",
    "W26": "Wang, Zavatone-Veth, Pehlevan, A random matrix theory perspective on the consistency of diffusion models, "
    "arXiv:2602.02908 (2026)",
    "WP25": "Wang, Pehlevan, An analytical theory of spectral bias in the learning dynamics of diffusion models, "
    "arXiv:2503.03206 (2025)",
}
