"""Options and template to plain configuration data.

Text that a user supplies cannot leave the scalar it is put in: it never stands in the rendered
document. Jinja sees native values (:mod:`.sealed`), prints tokens, the document is parsed as YAML,
and only then are tokens in scalars replaced by what they stand for (:mod:`.document`).

========================  =====================================================================
:mod:`.render`            the steps in order; what others call
:mod:`.options`           reserved words, JSON Schema
:mod:`.names`             the variables that the site provides: ``_GC`` and its legacy names
:mod:`.sealed`            values as tokens: the vault, and the string that behaves natively
:mod:`.sandbox`           the Jinja environment
:mod:`.filters`           Jinja's filters on sealed text
:mod:`.document`          YAML with the scalars that configurations need, tokens resolved
========================  =====================================================================
"""
